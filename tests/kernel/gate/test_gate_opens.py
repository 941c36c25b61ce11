# SPDX-License-Identifier: Apache-2.0
"""Whatever way leads to a watched file: who opens it is asked about, and how he opens it is known."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from calls import CWD
from gates import BOTH, inode_of
from laboratory import until
from ways import (
    WAYS,
    by_bind_mount,
    by_handle,
    by_openat2,
    by_path,
    by_proc_root,
    by_the_32_bit_entry,
)

from monitor.events import Access, Opened
from monitor.sessions.asked import opened
from monitor.sessions.places import view_of

# Every way to the inode -------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
def test_a_refused_open_for_write_changes_nothing_whatever_way_it_came(
    guard, inside, puppet, file, way
):
    guard.watch(file)
    guard.refusing()
    before = file.stat()
    with pytest.raises(PermissionError):
        way(puppet, file, os.O_WRONLY | os.O_TRUNC)
    [question] = guard.questions
    assert file.read_text() == "content"
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert (question.slot, question.pid, question.tid) == (inside.slot, puppet.pid, puppet.pid)
    assert (question.device, question.inode) == inode_of(file)
    assert question.access & Access.WRITE
    assert not question.execute


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
def test_a_permitted_open_goes_on_as_if_nobody_had_asked(guard, puppet, file, way):
    guard.watch(file)
    guard.answering(lambda _: True)
    way(puppet, file, os.O_WRONLY | os.O_TRUNC)
    assert file.read_text() == ""


def test_a_look_without_an_open_is_not_asked_about(guard, puppet, file):
    guard.watch(file)
    guard.refusing()
    puppet("openat", CWD, os.fsencode(file), os.O_PATH)
    puppet("stat", os.fsencode(file), puppet.place(bytes(256)))
    assert not guard.questions


# How --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "access"),
    [
        (os.O_RDONLY, Access.READ),
        (os.O_WRONLY, Access.WRITE),
        (os.O_RDWR, BOTH),
        (os.O_WRONLY | os.O_CREAT, Access.WRITE),
        (os.O_RDONLY | os.O_TRUNC, BOTH),
        (3, BOTH),
    ],
    ids=["read", "write", "both", "would create", "truncates", "ioctl"],
)
@pytest.mark.parametrize("way", [by_path, by_proc_root, by_handle, by_openat2, by_the_32_bit_entry])
def test_the_question_says_how_the_file_is_to_be_opened(guard, puppet, file, way, flags, access):
    guard.watch(file)
    guard.refusing()
    with pytest.raises(PermissionError):
        way(puppet, file, flags)
    assert [q.access for q in guard.questions] == [access]


def test_a_worker_of_io_uring_has_no_flags_to_be_believed(guard, inside, file):
    """Its registers are those its maker had in another call."""
    guard.watch(file)
    guard.refusing()
    process = inside.start("uring_open", str(file))
    said = inside.said(process)
    if said == b"off\n":
        pytest.skip("io_uring is switched off here")
    assert said == b"-1\n"
    [question] = guard.questions
    assert question.access == BOTH
    assert question.pid == process.pid
    assert question.tid != process.pid


READ_AND_WRITE = """
import os, sys, threading
def go(flags):
    try: os.open(sys.argv[1], flags)
    except PermissionError: pass
threads = [threading.Thread(target=go, args=(f,)) for f in (os.O_RDONLY, os.O_RDWR) * 5]
[t.start() for t in threads]; [t.join() for t in threads]
"""


def test_each_thread_is_asked_about_its_own_open(guard, inside, file):
    """One reads and is not answered yet when the other writes."""
    guard.watch(file)
    process = inside.start("/usr/bin/python3", "-c", READ_AND_WRITE, str(file))
    questions = []
    assert until(lambda: questions.extend(guard.gate.take()) or len(questions) == 10)
    assert sorted(q.access for q in questions) == [Access.READ] * 5 + [BOTH] * 5
    assert len({q.tid for q in questions}) == 10
    assert {q.pid for q in questions} == {process.pid}
    for question in questions:
        guard.gate.answer(question, allow=False)
    assert process.wait(5) == 0


def test_a_refused_program_does_not_run(guard, inside, puppet, scratch):
    program = scratch / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    guard.watch(program)
    guard.refusing()
    with pytest.raises(PermissionError):
        puppet("execve", os.fsencode(program), puppet.place_texts(b"program"), 0)
    assert [(q.execute, q.access) for q in guard.questions] == [(True, Access.READ)]


def test_a_permitted_program_runs_and_was_asked_about_twice(guard, inside, scratch):
    program = scratch / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    guard.watch(program)
    guard.answering(lambda _: True)
    assert inside.run("/usr/bin/env", str(program)) == 0
    assert [(q.execute, q.access) for q in guard.questions] == [
        (True, Access.READ), (False, Access.READ),
    ]  # fmt: skip


# The event it would be --------------------------------------------------------------------------


def test_a_question_becomes_the_event_of_an_open(guard, inside, puppet, file):
    guard.watch(file)
    events = []
    guard.answering(lambda question: events.append(opened(question, 5)) or False)
    with pytest.raises(PermissionError):
        by_path(puppet, file, os.O_RDWR)
    [event] = events
    assert event.file.path.text == str(file)
    assert (event.file.path.device, event.file.inode) == inode_of(file)
    assert event.file.parent_inode == file.parent.stat().st_ino
    assert (event.file.mode, event.file.links) == (file.stat().st_mode, 1)
    assert (event.tgid, event.tid, event.slot, event.access) == (
        puppet.pid,
        puppet.pid,
        inside.slot,
        BOTH,
    )
    assert event.view == view_of(puppet.pid)
    assert event.egress_bytes == 5
    assert abs(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - event.ktime_ns) < 5e9


def test_an_open_by_who_lost_his_main_thread_is_told_as_his_thread_sees_it(guard, inside, file):
    guard.watch(file)
    events = []
    guard.answering(lambda question: events.append(opened(question, 5)) or True)
    assert inside.run("family", "leader-leaves", file) == 7
    [event] = events
    assert event.tgid != event.tid
    assert (event.view, event.file.path.text) == (view_of(), str(file))
    assert event.file.parent_inode == file.parent.stat().st_ino


@pytest.fixture(params=["the test's", "/dev/shm"])
def elsewhere(request, file):
    """Of a file system that is the root's, or may be, and of one that is not."""
    if request.param == "the test's":
        yield file
        return
    with tempfile.TemporaryDirectory(dir=request.param, prefix="estop-test-") as scratch:
        path = Path(scratch, "watched")
        path.write_text("content")
        yield path


def test_the_event_agrees_with_what_the_kernel_side_says_of_the_same_open(
    guard, inside, puppet, elsewhere
):
    guard.watch(elsewhere)
    events = []
    guard.answering(lambda question: events.append(opened(question, 5)) or True)
    by_bind_mount(puppet, elsewhere, os.O_RDONLY)
    puppet("chroot", os.fsencode(elsewhere.parent))
    puppet("open", b"/watched", os.O_WRONLY)
    ours = [e for e in inside.events(Opened) if e.file.inode == elsewhere.stat().st_ino]
    assert [(e.file, e.access, e.view, e.uid) for e in events] == [
        (e.file, e.access, e.view, e.uid) for e in ours
    ]
