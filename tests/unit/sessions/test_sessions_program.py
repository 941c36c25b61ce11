# SPDX-License-Identifier: Apache-2.0
"""What an agent consists of, and what names it."""

from __future__ import annotations

import shutil

import pytest
from agent_code import CODE

from monitor.sessions import program
from monitor.sessions.program import AgentProgram, find_program

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
