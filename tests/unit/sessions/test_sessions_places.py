# SPDX-License-Identifier: Apache-2.0
"""Where names lead, as the kernel would follow them."""

from __future__ import annotations

import os

import pytest
from inodes import identity

from monitor.events import Name, Path
from monitor.sessions.places import below, resolve


def absolute(path):
    return Name(None, str(path))


def relative(base, text):
    return Name(Path(str(base), str(base), 0), text)


def test_an_absolute_name_is_its_own_place(here):
    (here / "f").touch()
    place = resolve(absolute(here / "f"), "/")
    assert (place.path, place.directory) == (str(here / "f"), str(here))
    assert (place.device, place.inode) == identity(here / "f")


def test_a_relative_name_starts_at_its_base(here):
    (here / "d").mkdir()
    (here / "f").touch()
    place = resolve(relative(here / "d", ".././d/../f"), "/")
    assert place.path == str(here / "f")
    assert place.inode == identity(here / "f")[1]


def test_an_empty_name_is_the_base_itself(here):
    (here / "f").touch()
    assert resolve(relative(here / "f", ""), "/").path == str(here / "f")


def test_directories_on_the_way_are_followed_and_the_last_part_is_not(here):
    (here / "real").mkdir()
    (here / "real" / "f").symlink_to("elsewhere")
    (here / "alias").symlink_to("real")
    place = resolve(absolute(here / "alias" / "f"), "/")
    assert place.path == str(here / "real" / "f")
    assert place.inode == identity(here / "real" / "f")[1]


def test_dots_are_resolved_as_the_kernel_does_it_and_not_as_text(here):
    (here / "a" / "b").mkdir(parents=True)
    (here / "a" / "f").touch()
    (here / "jump").symlink_to("a/b")
    assert resolve(absolute(here / "jump" / ".." / "f"), "/").path == str(here / "a" / "f")


def test_a_trailing_slash_changes_nothing(here):
    (here / "d").mkdir()
    assert resolve(absolute(f"{here}/d/"), "/").path == str(here / "d")


def test_a_name_that_leads_to_nothing_has_its_path_and_no_inode(here):
    place = resolve(absolute(here / "none"), "/")
    assert (place.path, place.inode, place.directory) == (str(here / "none"), 0, str(here))


def test_a_directory_that_is_gone_leaves_the_words(here):
    place = resolve(absolute(here / "gone" / ".." / "f"), "/")
    assert (place.path, place.inode, place.directory) == (str(here / "f"), 0, "")


def test_the_root_is_a_place():
    assert resolve(absolute("/"), "/").path == "/"


@pytest.mark.parametrize("links", [1, 2, 5])
def test_followed_to_the_end_a_name_is_the_file_behind_all_links(here, links):
    (here / "d").mkdir()
    (here / "d" / "0").touch()
    for number in range(1, links + 1):
        (here / "d" / str(number)).symlink_to(str(number - 1))
    place = resolve(absolute(here / "d" / str(links)), "/", follow=True)
    assert place.path == str(here / "d" / "0")
    assert (place.device, place.inode) == identity(here / "d" / "0")
    assert place.directory == str(here / "d")


def test_followed_to_nowhere_a_link_is_its_own_place(here):
    (here / "l").symlink_to("none")
    assert resolve(absolute(here / "l"), "/", follow=True).path == str(here / "l")


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("text", ["/f", "f", "../../../f", "/d/../../f", "/out"])
def test_in_another_root_nothing_leads_out_of_it(here, text, follow):
    (here / "jail" / "d").mkdir(parents=True)
    (here / "jail" / "f").touch()
    (here / "f").touch()
    (here / "jail" / "out").symlink_to("/f")
    name = Name(Path("/", "/", 0), text)
    place = resolve(name, str(here / "jail"), follow=follow)
    expected = "out" if text == "/out" and not follow else "f"
    assert place.path == f"/{expected}"
    assert place.outer == str(here / "jail" / expected)
    assert place.inode == identity(here / "jail" / expected)[1]
    assert place.directory == str(here / "jail")


@pytest.mark.parametrize(
    ("path", "base", "seen"),
    [
        ("/jail/f", "/jail", "/f"),
        ("/jail/jail/f", "/jail", "/jail/f"),
        ("/jail2/f", "/jail", "/jail2/f"),
        ("/jail/f", "/", "/jail/f"),
    ],
)
def test_a_path_is_seen_from_a_root_that_it_lies_in(path, base, seen):
    assert below(path, base) == seen


def test_a_root_that_is_no_other_has_no_second_spelling(here):
    (here / "f").touch()
    assert resolve(absolute(here / "f"), "/").outer == ""


def test_names_that_are_no_text_keep_their_bytes(here):
    path = os.fsencode(here) + b"/\xff"
    open(path, "w").close()
    place = resolve(Name(None, os.fsdecode(path)), "/")
    assert os.fsencode(place.path) == path
    assert place.inode == identity(path)[1]
