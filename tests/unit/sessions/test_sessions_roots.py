# SPDX-License-Identifier: Apache-2.0
"""The root that a process sees the file system from: how it is found, kept and let go."""

from __future__ import annotations

import os
import subprocess

import pytest

from monitor.events import View
from monitor.sessions import places
from monitor.sessions.places import Roots, view_of


def test_our_own_view_and_one_that_nobody_has_are_our_root():
    roots = Roots()
    assert roots.root(view_of(), []) == "/"
    assert roots.root(View(0, 0), [os.getpid()]) == "/"
    assert roots.root(View(1, 2), [os.getpid(), 2**22 + 1]) == "/"


@pytest.fixture
def dwellers():
    """Makes processes that see the file system from mount namespaces of their own: pid and view."""
    processes = []

    def make():
        command = ["unshare", "--mount", "sh", "-c", "echo here; exec sleep 60"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        processes.append(process)
        process.stdout.readline()
        return process.pid, view_of(process.pid)

    yield make
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.kernel
def test_of_too_many_roots_the_one_that_was_asked_for_longest_ago_is_let_go(dwellers, monkeypatch):
    monkeypatch.setattr(places, "_MOST_HELD", 2)
    now, released = [0.0], []
    roots = Roots(released=released.append, clock=lambda: now[0])
    (kept, first), *others = [dwellers() for _ in range(4)]
    roots.release(keep={first})
    home = roots.root(first, [kept])
    given = []
    for pid, view in others:
        now[0] += 1
        given.append(roots.root(view, [pid]))
    assert released == given[:2]
    assert roots.root(first, []) == home
    assert roots.root(others[2][1], []) == given[2]
    assert roots.root(others[0][1], []) == "/"


@pytest.mark.kernel
def test_to_ask_every_process_takes_a_small_share_of_the_time_and_the_nearest_are_always_asked(
    dwellers, monkeypatch
):
    now = [0.0]
    roots = Roots(clock=lambda: now[0])

    def slow(pid):
        now[0] += 0.01
        return view_of(pid)

    monkeypatch.setattr(places, "view_of", slow)
    here, view = dwellers()
    gone = [2**22 + number for number in range(1, 13)]
    assert roots.root(view, gone) == "/"  # ten others: a tenth of a second
    assert roots.root(view, [*gone, here]) == "/"
    assert roots.root(view, [gone[0], here]) != "/"
    other, another = dwellers()
    now[0] += 1.5
    assert roots.root(another, [*gone, other]) == "/"
    now[0] += 0.5
    assert roots.root(another, [*gone, other]) != "/"


@pytest.mark.kernel
def test_while_too_much_waits_to_be_closed_nothing_more_is_opened(dwellers, monkeypatch):
    monkeypatch.setattr(places, "_MOST_HELD", 1)
    monkeypatch.setattr(places, "_MOST_CLOSING", 1)
    roots = Roots()
    first, second = (roots.root(view, [pid]) for pid, view in (dwellers(), dwellers()))
    assert "/" not in {first, second}
    third, unseen = dwellers()
    assert roots.root(unseen, [third]) == "/"
    roots.release()
    assert roots.root(unseen, [third]) != "/"


@pytest.mark.kernel
def test_what_is_let_go_is_closed_by_whoever_releases(dwellers, monkeypatch):
    monkeypatch.setattr(places, "_MOST_HELD", 1)
    roots = Roots()
    first, second = (roots.root(view, [pid]) for pid, view in (dwellers(), dwellers()))
    assert os.path.isdir(first)
    roots.release()
    assert not os.path.isdir(first)
    assert os.path.isdir(second)


def test_the_view_of_a_process_that_is_gone_is_none():
    assert view_of(2**22 + 1) == View(0, 0)
