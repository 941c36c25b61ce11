# SPDX-License-Identifier: Apache-2.0
"""Numbers of processes, in real pid namespaces."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from agent.private_monitor import until
from monitor.sessions.pids import host_pid

_SHELL = "sleep 60 & sleep 60 & echo $! ready; wait"


@contextmanager
def nested(script=_SHELL):
    """A shell as number 1 of a namespace of its own, as (its process, the last one it started)."""
    if os.geteuid() != 0:
        pytest.skip("makes a pid namespace: needs root")
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as outer:
        number = int(outer.stdout.readline().split()[0])
        try:
            assert until(lambda: psutil.Process(outer.pid).children(), 10)
            (shell,) = psutil.Process(outer.pid).children()
            yield shell, number
        finally:
            outer.kill()


def sleepers(shell):
    return [child.pid for child in shell.children()]


def test_in_our_own_namespace_a_number_is_what_it_says():
    assert host_pid(4711, os.getpid(), [1, 2]) == 4711


def test_a_caller_that_is_gone_leaves_the_number():
    assert host_pid(4711, 2**22 + 1, [1]) == 4711


def test_a_number_of_another_namespace_is_whom_it_means_there():
    with nested() as (shell, number):
        first, last = sleepers(shell)
        assert number != last
        assert host_pid(number, shell.pid, [shell.pid, first, last]) == last
        assert host_pid(1, first, [shell.pid, first, last]) == shell.pid
        assert host_pid(number, shell.pid, [shell.pid, first]) == 0


def test_the_same_number_in_a_namespace_beside_it_is_somebody_else():
    with nested() as (shell, number), nested() as (other, _):
        assert host_pid(number, shell.pid, sleepers(other)) == 0


def test_who_is_deeper_has_a_number_here_too():
    script = "unshare --pid --fork sh -c 'sleep 60 & wait' & sleep 1; echo $! ready; wait"
    with nested(script) as (shell, _):
        (deepest,) = [p.pid for p in shell.children(recursive=True) if p.name() == "sleep"]
        numbers = Path(f"/proc/{deepest}/status").read_text().partition("NSpid:")[2].split()[:3]
        assert host_pid(int(numbers[1]), shell.pid, [deepest]) == deepest
        assert host_pid(int(numbers[2]), shell.pid, [deepest]) == 0
