# SPDX-License-Identifier: Apache-2.0
"""What is a copy of an agent, and that nobody can make us wait for the answer."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import threading
from contextlib import contextmanager

import pytest
from agent_code import CODE

from monitor.sessions.program import AgentProgram


def test_the_same_content_elsewhere_is_a_copy(script, here):
    program = AgentProgram([str(script)], [])
    shutil.copy(script, here / "copy")
    assert program.is_copy(str(here / "copy"))


def test_a_copy_of_any_file_of_the_home_is_one(package, here):
    program = AgentProgram([], [str(package)])
    shutil.copy(package / "package.json", here / "copy")
    assert program.is_copy(str(here / "copy"))


def test_what_everybody_shares_is_not_the_agents(package, here):
    program = AgentProgram([], [str(package)])
    shutil.copy(package / "node_modules" / "shared" / "index.js", here / "copy")
    assert not program.is_copy(str(here / "copy"))


@pytest.mark.parametrize("change", [lambda s: s + " ", lambda s: s.replace("I", "1"), lambda _: ""])
def test_other_content_is_none(script, here, change):
    program = AgentProgram([str(script)], [])
    (here / "copy").write_text(change(CODE))
    assert not program.is_copy(str(here / "copy"))


def test_the_program_itself_is_no_copy(script):
    assert not AgentProgram([str(script)], []).is_copy(str(script))


def test_another_name_of_the_program_is_a_copy(script, here):
    program = AgentProgram([str(script)], [])
    (here / "link").hardlink_to(script)
    assert program.is_copy(str(here / "link"))
    assert not program.is_copy(f"/proc/self/root{script}", str(script))


def test_a_copy_that_is_written_in_two_steps_is_seen_at_the_second(script, here):
    program = AgentProgram([str(script)], [])
    (here / "copy").write_text("x" * len(CODE))
    assert not program.is_copy(str(here / "copy"))
    (here / "copy").write_text(CODE)
    assert program.is_copy(str(here / "copy"))


def test_files_too_small_to_mean_anything_are_not_the_agents(here):
    (here / "__init__.py").touch()
    (here / "other").touch()
    assert not AgentProgram([str(here / "__init__.py")], []).is_copy(str(here / "other"))


def test_what_cannot_be_read_is_no_copy(script, here):
    program = AgentProgram([str(script)], [])
    assert not program.is_copy(str(here / "none"))
    assert not program.is_copy(str(here))


# What one would wait for ------------------------------------------------------------------------


@contextmanager
def fifo(place):
    os.mkfifo(place)
    yield


@contextmanager
def fifo_that_is_open(place):
    os.mkfifo(place)
    held = os.open(place, os.O_RDWR)
    os.write(held, b"words")
    yield
    assert os.read(held, 100) == b"words"
    os.close(held)


@contextmanager
def terminal(place):
    ours, theirs = pty.openpty()
    place.symlink_to(os.ttyname(theirs))
    os.write(ours, b"a line of its user\n")
    yield
    assert os.read(theirs, 100) == b"a line of its user\n"
    os.close(ours)
    os.close(theirs)


@contextmanager
def leased(place):
    held = os.open(place, os.O_RDWR | os.O_CREAT)
    os.write(held, CODE.encode())
    fcntl.fcntl(held, fcntl.F_SETSIG, signal.SIGURG)  # the default would end the test
    fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    yield
    os.close(held)


def answers(ask, *arguments):
    """What it says; fails if it is kept waiting."""
    said = []
    thread = threading.Thread(target=lambda: said.append(ask(*arguments)), daemon=True)
    thread.start()
    thread.join(2)
    assert said, "it waits"
    return said[0]


@pytest.mark.parametrize("what", [fifo, fifo_that_is_open, terminal, leased])
def test_nobody_is_waited_for_to_know_what_a_file_holds(script, here, what):
    program = AgentProgram([str(script)], [])
    with what(here / "b"):
        assert answers(program.named_in, str(here / "b")) is False
        assert answers(program._equals, str(here / "b"), str(script), None) is False


def test_who_waits_for_the_reader_of_a_fifo_does_not_take_us_for_it(script, here):
    os.mkfifo(here / "b")
    writer = threading.Thread(target=os.open, args=(here / "b", os.O_WRONLY), daemon=True)
    writer.start()
    for _ in range(100):
        assert answers(AgentProgram([str(script)], []).named_in, str(here / "b")) is False
    assert writer.is_alive()
    os.close(os.open(here / "b", os.O_RDONLY | os.O_NONBLOCK))
    writer.join(2)


def test_a_file_whose_lease_was_given_back_is_read_the_next_time(script, here):
    program = AgentProgram([str(script)], [])
    with leased(here / "copy"):
        assert not answers(program.is_copy, str(here / "copy"))
    assert program.is_copy(str(here / "copy"))


@pytest.mark.parametrize("looks", [1, 2])
def test_a_file_that_grows_while_it_is_compared_is_read_no_further(
    script, here, monkeypatch, looks
):
    program = AgentProgram([str(script)], [])
    shutil.copy(script, here / "copy")
    plain, sizes = os.fstat, []

    def grows(descriptor):
        found = plain(descriptor)
        sizes.append(found.st_size)
        if len(sizes) == looks:
            os.truncate(here / "copy", 2**40)
        return found

    monkeypatch.setattr(os, "fstat", grows)
    assert answers(program.is_copy, str(here / "copy")) is (max(sizes) == len(CODE))
