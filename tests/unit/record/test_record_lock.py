# SPDX-License-Identifier: Apache-2.0
"""One daemon for each state directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from monitor.errors import StoreError
from monitor.record.lock import StateLock

HOLD = """
import pathlib, sys, time
from monitor.record.lock import StateLock
with StateLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_daemon_is_told_the_pid_and_the_directory(directory):
    with StateLock(directory), pytest.raises(StoreError) as caught, StateLock(directory):
        pass
    assert str(directory) in str(caught.value)
    assert f"pid {os.getpid()}" in str(caught.value)
    assert "--state-dir" in caught.value.mend


def test_a_killed_daemon_leaves_the_directory_free(directory):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=f"pid {holder.pid}"), StateLock(directory):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with StateLock(directory):
        assert (directory / "lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_can_be_taken_again_once_let_go(directory):
    for _ in range(2):
        with StateLock(directory):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user; needs root")
def test_a_lock_that_cannot_be_opened_is_named(directory):
    directory.mkdir(mode=0o755)
    for parent in directory.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    before = os.geteuid()
    os.seteuid(1234)
    try:
        with pytest.raises(StoreError, match=f"{directory}/lock: Permission denied"):
            StateLock(directory).__enter__()
    finally:
        os.seteuid(before)
