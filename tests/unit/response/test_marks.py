# SPDX-License-Identifier: Apache-2.0
"""What is asked about: the files of rules that stop, and directories that are nobody else's."""

from __future__ import annotations

import pytest

from monitor.looking import UnansweredError
from monitor.lowered import Act, Lowered, Watch, Where
from monitor.response.marks import Marks


class Gate:
    """Notes what it is told."""

    def __init__(self):
        self.files, self.directories, self.renewed, self.times = {}, {}, [], 0

    def set_marks(self, files, directories):
        self.times += 1
        self.files, self.directories = files, directories

    def mark(self, path):
        self.renewed.append(path)


def inode(path):
    found = path.stat()
    return found.st_dev, found.st_ino


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home" / "ann"
    for name in (".aws/credentials", ".config/tool/key", ".config/shared", ".netrc", "etc/hosts"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    return home


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def sessions():
    return [("/", "")]


def marking(gate, sessions, home, *watches):
    marks = Marks(gate, lambda: tuple(sessions), homes=[str(home)])
    marks.replace(Lowered(watches=watches))
    return marks


def exact(path, hold=Act.READ):
    return Watch(Where.EXACT, str(path), hold, Act.NOTHING)


def table(*paths):
    return {"/": {str(p): inode(p) if p.exists() else (0, 0) for p in paths}}


def test_a_file_is_asked_about_if_its_open_may_match_and_not_for_other_acts(gate, sessions, home):
    read, gone = home / ".netrc", home / "etc" / "hosts"
    marks = marking(gate, sessions, home, exact(read), exact(gone, Act.DELETE | Act.EXEC))
    marks.follow(table(read, gone))
    assert gate.files == {inode(read): str(read)}


def test_there_are_no_marks_without_a_session_that_may_be_stopped(gate, sessions, home):
    marks = marking(gate, sessions, home, exact(home / ".netrc"))
    marks.follow(table(home / ".netrc"))
    sessions.clear()
    marks.refresh()
    assert (gate.files, gate.directories) == ({}, {})
    marks.renewed([(str(home / ".netrc"), str(home / ".netrc"))])
    assert gate.renewed == []


def test_where_all_is_as_it_was_nobody_is_told(gate, sessions, home):
    watches = (exact(home / ".netrc"),)
    marks = marking(gate, sessions, home, *watches)
    changes = (
        lambda: None,
        lambda: (home / ".netrc").rename(home / "etc" / "hosts"),
        lambda: sessions.append(("/proc/7/root", "")),
        lambda: marks.replace(Lowered(watches=watches)),
        sessions.clear,
    )
    for times, change in enumerate(changes, start=1):
        change()
        for _ in range(3):
            marks.follow(table(home / ".netrc"))
        assert gate.times == times


def test_the_directory_of_one_program_in_a_home_is_asked_about_and_no_shared_one(
    gate, sessions, home
):
    files = [
        home / ".aws" / "credentials", home / ".config" / "tool" / "key",
        home / ".config" / "shared", home / ".netrc", home / "etc" / "hosts",
    ]  # fmt: skip
    marks = marking(gate, sessions, home, *map(exact, files))
    marks.follow(table(*files))
    assert set(gate.directories.values()) == {str(home / ".aws"), str(home / ".config" / "tool")}


def test_a_directory_is_asked_about_before_the_file_is_there(gate, sessions, home):
    secret = home / ".aws" / "credentials"
    secret.unlink()
    marks = marking(gate, sessions, home, exact(secret))
    marks.follow(table(secret))
    assert gate.files == {}
    assert set(gate.directories.values()) == {str(home / ".aws")}


def test_a_directory_that_a_rule_names_is_asked_about_unless_it_is_full(gate, sessions, home):
    named = home / "etc"
    marks = marking(gate, sessions, home, Watch(Where.BELOW, f"{named}/", Act.WRITE, Act.NOTHING))
    marks.follow({"/": {}})
    assert set(gate.directories.values()) == {str(named)}
    for number in range(64):
        (named / str(number)).touch()
    marks.refresh()
    assert gate.directories == {}


@pytest.mark.parametrize("path", ["/dev/mapper/", "/proc/sys/", "/etc/", "/"])
def test_what_the_kernel_makes_and_what_everybody_opens_is_left_alone(gate, sessions, home, path):
    marks = marking(gate, sessions, home, Watch(Where.BELOW, path, Act.WRITE, Act.NOTHING))
    marks.follow({"/": {"/proc/sysrq-trigger": (1, 1)}})
    assert (gate.files, gate.directories) == ({}, {})


def test_the_home_an_agent_was_given_is_a_home(gate, sessions, home, tmp_path):
    sessions[:] = [("/", str(home))]
    marks = Marks(gate, lambda: tuple(sessions), homes=[str(tmp_path / "other")])
    ending = Watch(Where.ENDING, "/.aws/credentials", Act.READ, Act.NOTHING)
    marks.replace(Lowered(watches=(ending,)))
    marks.follow({"/": {}})
    assert set(gate.files.values()) == {str(home / ".aws" / "credentials")}
    assert set(gate.directories.values()) == {str(home / ".aws")}


def test_a_name_that_came_is_marked_at_once_if_it_is_watched(gate, sessions, home):
    secret = str(home / ".aws" / "credentials")
    marks = marking(gate, sessions, home, exact(secret))
    marks.follow({"/": {}})
    marks.renewed([(secret, "/proc/self/fd/9" + secret), ("/etc/passwd", "/etc/passwd")])
    assert gate.renewed == ["/proc/self/fd/9" + secret]


def test_who_does_not_answer_is_the_last_who_is_asked_in_a_turn(gate, home):
    """The pipeline may be waiting for it to be over; files whose inodes are known are marked all the same."""
    asked, silent = [], ["/one", "/two"]

    def look(at, whose):
        asked.append(whose[1])
        if whose[1] in silent:
            raise UnansweredError(waited=True)
        return at()

    secret = home / ".aws" / "credentials"
    marks = Marks(gate, lambda: (("/", ""),), homes=[str(home)], look=look)
    marks.replace(Lowered(watches=(exact(secret),)))
    known = {str(secret): inode(secret)}
    marks.follow({"/one": known, "/two": known, "/": known})
    assert asked == ["/one"]
    assert gate.directories == {}
    assert inode(secret) in gate.files
    silent.remove("/one")
    marks.refresh()
    assert asked == ["/one", "/one", "/two"]


def test_who_is_known_not_to_answer_keeps_no_other_from_being_asked(gate, home):
    def look(at, whose):
        if whose[1] == "/one":
            raise UnansweredError
        return at()

    secret = home / ".aws" / "credentials"
    marks = Marks(gate, lambda: (("/", ""),), homes=[str(home)], look=look)
    marks.replace(Lowered(watches=(exact(secret),)))
    known = {str(secret): inode(secret)}
    marks.follow({"/one": known, "/": known})
    assert set(gate.directories.values()) == {str(home / ".aws")}
