# SPDX-License-Identifier: Apache-2.0
"""What an agent consists of, what is a copy of it, and when a copy is looked for."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.sessions import program, settle
from monitor.sessions.live import LiveSession, WrittenFiles
from monitor.sessions.program import AgentProgram, find_program
from monitor.sessions.settle import Settling, Written
from monitor.subjects import Mode, Origin, Process, State

CODE = "print('I am an agent, and this is my code.')\n" * 3


@pytest.fixture
def script(here):
    (here / "agent.py").write_text(CODE)
    return here / "agent.py"


@pytest.fixture
def package(here):
    home = here / "deep" / "down" / "agent"
    (home / "bin").mkdir(parents=True)
    (home / "package.json").write_text("{}" + " " * 60)
    (home / "bin" / "run.js").write_text(CODE)
    (home / "node_modules" / "shared").mkdir(parents=True)
    (home / "node_modules" / "shared" / "index.js").write_text(CODE + "// everybody's")
    return home


# Finding ----------------------------------------------------------------------------------------


def test_an_interpreters_script_is_the_program(script, here):
    program = find_program(["/usr/bin/python3", "-u", "agent.py", "x"], str(here))
    assert program.entries == (str(script),)
    assert program.homes == ()


def test_a_script_in_a_package_makes_the_package_its_home(package):
    program = find_program(["node", "bin/run.js"], str(package))
    assert program.entries == (str(package / "bin" / "run.js"),)
    assert program.homes == (str(package),)


def test_a_program_outside_of_the_system_is_its_own(here):
    shutil.copy("/bin/true", here / "tool")
    assert find_program([str(here / "tool")], "/").entries == (str(here / "tool"),)


def test_a_program_of_the_system_is_nobodys_own():
    assert find_program(["/bin/sh", "-c", "true"], "/").entries == ()
    assert find_program(["sh"], "/").entries == ()


def test_a_home_that_the_user_named_belongs_to_it(package):
    program = find_program(["/bin/sh"], "/", str(package))
    assert program.homes == (str(package),)
    assert program.owns(str(package / "bin" / "run.js"))


def test_a_users_home_is_no_package_whatever_lies_in_it(package, monkeypatch):
    monkeypatch.setenv("HOME", str(package))
    assert find_program(["node", "bin/run.js"], str(package)).homes == ()


def test_a_home_with_too_many_files_is_known_in_part(package, monkeypatch):
    monkeypatch.setattr(program, "_MAX_FILES", 3)
    for directory in "abc":
        (package / directory).mkdir()
        for name in "xyz":
            (package / directory / name).write_text(CODE + directory + name)
    found = AgentProgram((), (str(package),))
    assert len(found._inodes) == 3


def test_what_is_too_large_to_be_compared_is_not_the_agents(script, here, monkeypatch):
    monkeypatch.setattr(program, "_MAX_BYTES", len(CODE) - 1)
    shutil.copy(script, here / "copy.py")
    assert not find_program(["python3", "agent.py"], str(here)).is_copy(str(here / "copy.py"))


def test_a_mark_right_below_the_root_makes_no_home(script, here):
    assert find_program(["python3", str(script)], "/").homes == ()


# Naming -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["{home}/bin/run.js"],
        ["-r", "{home}"],
        ["{home}/."],
        ["{home}/"],
        ["file=@{home}/bin/run.js"],
        ["--data-binary=@{home}/bin/run.js"],
        ["@{home}/bin/run.js"],
        ["-d@{home}/bin/run.js"],
        ["-T{home}/bin/run.js"],
        ["if={home}/bin/run.js"],
        ["host:{home}"],
        ["{home}/moved-away-meanwhile"],
    ],
)
def test_an_argument_names_the_program_in_many_ways(package, arguments):
    program = find_program(["node", "bin/run.js"], str(package))
    assert program.named_by([a.format(home=package) for a in arguments], "/usr")


@pytest.mark.parametrize(
    "argument",
    ["bin/run.js", "./bin/../bin/run.js", ".", "if=bin/run.js", "@bin/run.js", "<bin", "@a=b"],
)
def test_in_its_home_a_word_names_the_program_if_it_is_there(package, argument):
    (package / "a=b").touch()
    program = find_program(["node", "bin/run.js"], str(package))
    assert program.named_by([argument], str(package))


@pytest.mark.parametrize(
    "arguments", [[], ["{home}2/x"], ["-v"], [".."], ["{home}/../other"], [""], ["of="]]
)
@pytest.mark.parametrize("at_home", [True, False])
def test_other_arguments_do_not(package, arguments, at_home):
    program = find_program(["node", "bin/run.js"], str(package))
    cwd = str(package) if at_home else "/usr"
    assert not program.named_by([a.format(home=package) for a in arguments], cwd)


# Copies -----------------------------------------------------------------------------------------


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
        assert answers(program._digest, str(here / "b")) is None


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


# Settling ---------------------------------------------------------------------------------------


@pytest.fixture
def live(script):
    live = LiveSession(
        id="s", slot=1, name="a", mode=Mode.ENFORCE, origin=Origin.LAUNCHED, cgroup=Path("/x"),
        root_pid=1, uid=0, history_events=1,
    )  # fmt: skip
    live.program = AgentProgram([str(script)], [])
    return live


def written(path):
    return Written(str(path), str(path), (1, 2))


def test_a_copy_is_reported_once_when_its_time_has_come(live, script, here):
    settling = Settling()
    shutil.copy(script, here / "copy")
    settling.add(written(here / "copy"), live, Process(pid=1), 1000)
    first = 1000 + settle._DELAYS_NS[0]
    assert list(settling.due(first - 1)) == []
    assert [found.file.path for found in settling.due(first)] == [str(here / "copy")]
    assert list(settling.due(10**18)) == []


def test_a_file_is_looked_at_again_until_the_last_delay(live, script, here):
    settling = Settling()
    settling.add(written(here / "copy"), live, Process(pid=1), 0)
    now = 0
    for delay in settle._DELAYS_NS[:-1]:
        now += delay
        assert list(settling.due(now)) == []
    shutil.copy(script, here / "copy")
    assert len(list(settling.due(now + settle._DELAYS_NS[-1]))) == 1


def test_of_many_that_are_due_some_are_looked_at_and_none_is_forgotten(live, script, here):
    settling = Settling()
    shutil.copy(script, here / "copy")
    for number in range(200):
        settling.add(written(here / f"{number}"), live, Process(pid=1), 0)
    settling.add(written(here / "copy"), live, Process(pid=1), 1)
    found = [[one.file.path for one in settling.due(settle._DELAYS_NS[0] + 1)] for _ in range(10)]
    assert found[0] == []  # it is the last of them
    assert [path for paths in found for path in paths] == [str(here / "copy")]


def test_after_the_last_look_a_file_is_forgotten_and_may_come_anew(live, here):
    settling = Settling()
    now = 0
    settling.add(written(here / "never"), live, Process(pid=1), now)
    for delay in settle._DELAYS_NS:
        now += delay
        assert list(settling.due(now)) == []
    assert settling.wait_ms(now, 200) == 200
    settling.add(written(here / "never"), live, Process(pid=1), now)
    assert settling.wait_ms(now, 200) < 200


def test_a_file_that_waits_already_waits_once(live, script, here):
    settling = Settling()
    shutil.copy(script, here / "copy")
    for now in (0, 1, 2):
        settling.add(written(here / "copy"), live, Process(pid=1), now)
    assert len(list(settling.due(10**12))) == 1


def test_a_session_that_ended_is_looked_at_no_more(live, here):
    settling = Settling()
    settling.add(written(here / "x"), live, Process(pid=1), 0)
    live.state = State.EXITED
    assert list(settling.due(settle._DELAYS_NS[0])) == []
    assert settling.wait_ms(0, 200) == 200


def test_what_does_not_fit_is_counted(live, monkeypatch):
    monkeypatch.setattr(settle, "_MAX_WAITING", 2)
    settling = Settling()
    for number in range(5):
        settling.add(written(f"/none/{number}"), live, Process(pid=1), 0)
    assert settling.dropped == 3


def test_the_wait_ends_with_the_next_look(live):
    settling = Settling()
    assert settling.wait_ms(0, 200) == 200
    settling.add(written("/none"), live, Process(pid=1), 0)
    assert settling.wait_ms(0, 200) == settle._DELAYS_NS[0] // 1_000_000 + 1
    assert settling.wait_ms(10**12, 200) == 0
    assert settling.wait_ms(0, 1) == 1


def test_of_written_files_the_oldest_is_forgotten_first():
    files = WrittenFiles(limit=2)
    for inode in (1, 2, 1, 3):
        files.add(0, inode)
    assert [(0, inode) in files for inode in (1, 2, 3)] == [True, False, True]


def test_a_small_file_with_the_path_of_the_program_names_it(here):
    program = AgentProgram((str(here / "agent.py"),), ())
    (here / "unit").write_text(f"[Service]\nExecStart=/usr/bin/python3 {here}/agent.py\n")
    (here / "other").write_text("[Service]\nExecStart=/usr/bin/true\n")
    (here / "log").write_text(f"{here}/agent.py\n" * 100_000)
    assert program.named_in(str(here / "unit"))
    assert not program.named_in(str(here / "other"))
    assert not program.named_in(str(here / "log"))
    assert not program.named_in(str(here / "missing"))


def test_the_home_of_a_user_as_agent_home_is_named_by_nothing(here):
    (here / "profile").write_text("cd /home/ann/\n")
    assert not AgentProgram((), ("/home/ann",)).named_in(str(here / "profile"))
