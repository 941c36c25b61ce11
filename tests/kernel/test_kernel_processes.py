# SPDX-License-Identifier: Apache-2.0
"""Births, programs and deaths."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

from monitor.events import Executed, Exited, Forked, Opened

CWD = -100
EMPTY_PATH = 0x1000


def executed(inside, pid):
    return next(e for e in inside.events(Executed) if e.tgid == pid)


def test_exec_tells_program_arguments_directory_and_parent(inside, lab, scratch):
    program = lab.program("family")
    process = inside.start("family", "exit", "0", "with space", "", cwd=scratch)
    process.wait()
    ran = executed(inside, process.pid)
    assert ran.image.path.text == program
    assert ran.image.inode == os.stat(program).st_ino
    assert stat.S_IMODE(ran.image.mode) & 0o111
    assert ran.argv == (program, "exit", "0", "with space", "")
    assert not ran.argv_truncated
    assert not ran.cut
    assert ran.cwd.text == str(scratch)
    assert ran.parent == os.getpid()
    assert ran.script == ""


def test_exec_through_a_symlink_tells_the_program_itself(inside, lab, scratch):
    (scratch / "sh").symlink_to(lab.program("family"))
    process = inside.start(str(scratch / "sh"), "exit", "0")
    process.wait()
    ran = executed(inside, process.pid)
    assert ran.image.path.text == lab.program("family")


def test_a_script_tells_its_interpreter_and_itself(inside, lab, scratch):
    script = scratch / "script"
    script.write_text(f"#!{lab.program('family')} exit\n")
    script.chmod(0o700)
    process = inside.start(str(script))
    process.wait()
    ran = executed(inside, process.pid)
    assert ran.image.path.text == lab.program("family")
    assert ran.script == str(script)
    assert ran.argv == (lab.program("family"), "exit", str(script))


@pytest.mark.parametrize(("length", "truncated"), [(3000, False), (5000, True)])
def test_arguments_that_do_not_fit_are_said_to_be_cut(inside, length, truncated):
    process = inside.start("family", "exit", "0", "x" * length)
    process.wait()
    ran = executed(inside, process.pid)
    assert ran.argv_truncated is truncated
    assert ran.cut is truncated
    assert ran.argv[1:3] == ("exit", "0")
    assert set(ran.argv[3]) == {"x"}


def test_arguments_arrive_byte_for_byte(inside):
    process = inside.start("family", "exit", b"\xff\n\x1b")
    process.wait()
    assert os.fsencode(executed(inside, process.pid).argv[2]) == b"\xff\n\x1b"


def test_a_program_from_memory_has_no_links(inside, puppet, lab, scratch):
    memory = puppet("memfd_create", b"hidden", 0)
    program = Path(lab.program("family")).read_bytes()
    (scratch / "program").write_bytes(program)
    source = puppet("openat", CWD, os.fsencode(scratch / "program"), os.O_RDONLY)
    assert puppet("sendfile", memory, source, 0, len(program)) == len(program)
    argv = puppet.place_texts(b"innocent", b"exit", b"3")
    puppet.become("execveat", memory, b"", argv, puppet.place_texts(), EMPTY_PATH)
    assert puppet.process.wait() == 3
    ran = executed(inside, puppet.pid)
    assert ran.image.links == 0
    assert ran.image.path.text == "/memfd:hidden"
    assert ran.argv == ("innocent", "exit", "3")


def test_a_program_that_was_unlinked_has_no_links(inside, puppet, lab, scratch):
    shutil.copy(lab.program("family"), scratch / "p")
    (scratch / "p").chmod(0o700)
    held = puppet("openat", CWD, os.fsencode(scratch / "p"), os.O_PATH)
    puppet("unlink", os.fsencode(scratch / "p"))
    argv = puppet.place_texts(b"p", b"exit", b"0")
    puppet.become("execveat", held, b"", argv, puppet.place_texts(), EMPTY_PATH)
    puppet.process.wait()
    assert executed(inside, puppet.pid).image.links == 0


@pytest.mark.parametrize("number", [0, 3, 255])
def test_an_exit_tells_its_code(inside, number):
    process = inside.start("family", "exit", str(number))
    process.wait()
    [gone] = inside.events(Exited)
    assert gone.tgid == process.pid
    assert os.waitstatus_to_exitcode(gone.code) == number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_death_by_signal_tells_which(inside, number):
    process = inside.start("family", "signal", str(int(number)))
    process.wait()
    [gone] = inside.events(Exited)
    assert os.WIFSIGNALED(gone.code)
    assert os.WTERMSIG(gone.code) == number


def test_a_birth_names_the_child_before_the_child_does_anything(inside, scratch):
    process = inside.ready("family", "children", "2")
    births = inside.events(Forked)
    assert [e.tgid for e in births] == [process.pid] * 2
    for birth in births:
        fields = Path(f"/proc/{birth.child}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[1]) == process.pid
        ticks = int(fields[19])
        assert ticks == birth.child_started_ns * os.sysconf("SC_CLK_TCK") // 10**9


@pytest.mark.parametrize("act", ["thread-ends", "leader-leaves"])
def test_the_end_of_a_thread_is_not_the_end_of_the_process(inside, kernel, scratch, act):
    process = inside.start("family", act, scratch / "touched")
    process.wait()
    events = inside.events()
    assert not [e for e in events if isinstance(e, Forked)]  # a thread is no process
    [touch] = [e for e in events if isinstance(e, Opened)]
    [gone] = [e for e in events if isinstance(e, Exited)]
    assert touch.file.path.text == str(scratch / "touched")
    assert touch.tgid == gone.tgid == process.pid
    assert touch.ktime_ns < gone.ktime_ns
    assert os.waitstatus_to_exitcode(gone.code) == 7
    assert kernel.task_slot(process.pid) == 0


def test_a_process_is_in_scope_until_it_ends(inside, kernel):
    process = inside.start("family", "wait")
    inside.wait(Executed)
    assert kernel.task_slot(process.pid) == inside.slot
    process.kill()
    process.wait()
    assert kernel.task_slot(process.pid) == 0
