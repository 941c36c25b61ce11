# SPDX-License-Identifier: Apache-2.0
"""Labels flow from who touched a secret to whom it can have told of it, and to nobody else."""

from __future__ import annotations

import os
import subprocess

import pytest

from monitor import events
from monitor.sessions import taint
from monitor.sessions.process_tree import ProcessTree
from monitor.sessions.taint import Taint, at_other_ends, labels_of
from monitor.subjects import Process

SECRET = frozenset({"credential"})
FILE = (1, 2)


@pytest.fixture
def tree():
    tree = ProcessTree("s")
    tree.add(Process(pid=10, image="/bin/sh"))
    return tree


def fork(tree, parent, child):
    event = events.Forked(
        ktime_ns=1, egress_bytes=0, slot=1, tgid=parent, tid=parent, uid=0,
        view=events.View(1, 1), cut=False, child=child, child_started_ns=1,
    )  # fmt: skip
    tree.fork(event)


def tainted(tree, pid):
    return tree.fields(tree.get(pid))["Tainted"]


def test_only_tags_of_its_own_namespace_are_labels():
    tags = ("attack.credential-access", "estop.taint.credential", "estop.taint.mail")
    assert labels_of(tags) == {"credential", "mail"}
    assert labels_of(()) == frozenset()


def test_a_child_has_the_labels_of_its_parent_and_keeps_them_when_it_runs_something(tree):
    assert tainted(tree, 10) == []
    tree.taint(10, SECRET)
    fork(tree, 10, 11)
    tree.add(Process(pid=11, image="/usr/bin/curl"))
    assert tainted(tree, 10) == tainted(tree, 11) == ["credential"]


def test_a_child_that_was_born_before_has_none(tree):
    fork(tree, 10, 11)
    tree.taint(10, SECRET)
    assert tainted(tree, 11) == []


def test_a_process_that_got_the_number_of_a_tainted_one_has_none(tree):
    fork(tree, 10, 11)
    tree.taint(11, SECRET)
    tree.exit(11)
    fork(tree, 10, 11)
    assert tainted(tree, 11) == []


def test_labels_flow_through_a_file(tree):
    fork(tree, 10, 11)
    fork(tree, 10, 12)
    tree.opened(11, FILE, read=False, write=True)
    tree.opened(12, FILE, read=True, write=False)
    assert tainted(tree, 12) == []  # nobody knew anything when it was written
    tree.taint(11, SECRET)
    tree.opened(11, FILE, read=False, write=True)
    tree.opened(12, FILE, read=True, write=False)
    assert tainted(tree, 12) == ["credential"]


def test_who_knows_nothing_takes_no_label_off_a_file(tree):
    fork(tree, 10, 11)
    fork(tree, 10, 12)
    tree.taint(11, SECRET)
    for writer in (11, 10):
        tree.opened(writer, FILE, read=False, write=True)
    tree.opened(12, FILE, read=True, write=False)
    assert tainted(tree, 12) == ["credential"]


def test_the_oldest_tainted_file_is_forgotten(monkeypatch):
    monkeypatch.setattr(taint, "_MAX_FILES", 2)
    marks = Taint()
    marks.give(10, SECRET)
    for inode in (1, 2, 1, 3):
        marks.wrote(10, (0, inode))
    assert [marks.of_file((0, inode)) for inode in (1, 2, 3)] == [SECRET, frozenset(), SECRET]


def test_labels_flow_through_a_pipe_to_who_holds_its_other_end(tree):
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as joined:
        me = os.getpid()
        for pid in (me, joined.pid):
            tree.add(Process(pid=pid))
        assert set(at_other_ends(me, [me, 10, joined.pid])) == {joined.pid}
        tree.taint(me, SECRET)
        assert tainted(tree, joined.pid) == ["credential"]
        assert tainted(tree, 10) == []


def test_what_two_processes_have_open_besides_pipes_carries_nothing(tmp_path):
    shared = (tmp_path / "log").open("wb")
    with (
        shared,
        subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=shared) as other,
    ):
        with open(os.devnull, "rb"):
            assert list(at_other_ends(os.getpid(), [other.pid])) == []
        other.kill()


def test_a_process_that_is_gone_shares_no_pipe():
    assert list(at_other_ends(2**22 + 1, [os.getpid()])) == []
