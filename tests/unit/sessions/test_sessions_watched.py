# SPDX-License-Identifier: Apache-2.0
"""A watched path is known by its inode, also after it was replaced, and below every root."""

from __future__ import annotations

from inodes import identity

from monitor.sessions import watched as watched_module
from monitor.sessions.watched import WatchedPaths


def test_a_watched_path_is_known_by_its_inode(here):
    (here / "hosts").touch()
    watched = WatchedPaths([str(here / "hosts"), str(here / "none")])
    watched.read("/")
    assert watched.aliases("/", *identity(here / "hosts")) == [str(here / "hosts")]
    assert watched.aliases("/", 0, 0) == ()


def test_two_watched_paths_of_one_file_are_both_told(here):
    (here / "a").touch()
    (here / "b").symlink_to("a")
    watched = WatchedPaths([str(here / "a"), str(here / "b")])
    watched.read("/")
    assert watched.aliases("/", *identity(here / "a")) == [str(here / "a"), str(here / "b")]


def test_a_replaced_file_is_known_after_its_name_changed_and_the_old_one_no_more(here):
    (here / "hosts").write_text("old")
    (here / "other").touch()
    watched = WatchedPaths([str(here / "hosts"), str(here / "other")])
    watched.read("/")
    old = identity(here / "hosts")
    assert watched.aliases("/", *old)
    (here / "new").write_text("new")
    (here / "hosts").rename(here / "saved")
    (here / "new").rename(here / "hosts")
    watched.changed("unrelated")
    assert not watched.aliases("/", *identity(here / "hosts"))
    watched.changed("hosts")
    assert watched.aliases("/", *identity(here / "hosts")) == [str(here / "hosts")]
    assert not watched.aliases("/", *old)
    assert watched.aliases("/", *identity(here / "other")) == [str(here / "other")]


def test_a_watched_path_that_comes_to_be_is_known_once_its_name_changed(here):
    watched = WatchedPaths([str(here / "late")])
    watched.read("/")
    (here / "late").touch()
    watched.changed("late")
    assert watched.aliases("/", *identity(here / "late"))


def test_a_root_that_is_gone_is_forgotten(here):
    (here / "jail").mkdir()
    watched = WatchedPaths(["/x"])
    watched.read(str(here / "jail"))
    (here / "jail").rmdir()
    watched.refresh()
    assert watched._tables == {}


def test_the_housekeeper_learns_what_somebody_else_replaced(here):
    (here / "hosts").write_text("old")
    watched = WatchedPaths([str(here / "hosts")])
    watched.read("/")
    (here / "new").write_text("new")
    (here / "new").replace(here / "hosts")
    watched.refresh()
    assert watched.aliases("/", *identity(here / "hosts"))


def test_below_another_root_the_same_path_is_another_file(here):
    (here / "jail" / "etc").mkdir(parents=True)
    (here / "jail" / "etc" / "hosts").touch()
    watched = WatchedPaths(["/etc/hosts"])
    inside = identity(here / "jail" / "etc" / "hosts")
    for root in ("/", str(here / "jail")):
        watched.read(root)
    assert watched.aliases(str(here / "jail"), *inside) == ["/etc/hosts"]
    assert not watched.aliases("/", *inside)


def test_a_root_that_is_not_known_is_read_for_whoever_follows(here):
    (here / "etc").mkdir()
    (here / "etc" / "hosts").touch()
    told = []
    watched = WatchedPaths(["/etc/hosts"], on_change=lambda *found: told.append(found))
    inside = identity(here / "etc" / "hosts")
    assert watched.aliases(str(here), *inside, slot=7) == ()
    assert told == []
    watched.follow(0)
    assert watched.aliases(str(here), *inside) == ["/etc/hosts"]
    assert told == [({}, {7: [("/etc/hosts", inside)]})]
    watched.follow(0)
    watched.refresh()
    assert len(told) == 1


def test_a_name_that_changed_is_known_at_once_and_told_by_whoever_follows(here):
    told, names = [], []
    watched = WatchedPaths([str(here / "late")], lambda *t: told.append(t), names.extend)
    watched.read("/")
    (here / "late").touch()
    watched.changed("late")
    assert watched.aliases("/", *identity(here / "late"))
    assert names == [(str(here / "late"), str(here / "late"))]
    before = len(told)
    watched.follow(0)
    assert told[before:] == [({str(here / "late"): {identity(here / "late")}}, {})]


def test_what_changes_while_a_table_is_read_is_looked_at_again(here, monkeypatch):
    watched = WatchedPaths([str(here / "hosts")])
    watched.read("/")
    look = watched_module._inodes

    def meanwhile(root, paths):
        found = look(root, paths)
        if not (here / "hosts").exists():
            (here / "hosts").touch()
            watched.changed("hosts")
        return found

    monkeypatch.setattr(watched_module, "_inodes", meanwhile)
    watched.refresh()
    assert watched.aliases("/", *identity(here / "hosts"))


def test_a_root_that_was_let_go_is_read_anew(here):
    (here / "hosts").touch()
    watched = WatchedPaths([str(here / "hosts")])
    watched.read("/")
    watched.forget("/")
    assert watched.aliases("/", *identity(here / "hosts")) == ()
    watched.follow(0)
    assert watched.aliases("/", *identity(here / "hosts"))


def test_other_rules_watch_other_paths(here):
    (here / "a").touch()
    watched = WatchedPaths([])
    watched.read("/")
    watched.replace([str(here / "a")])
    assert watched.aliases("/", *identity(here / "a"))


def test_rules_that_change_while_a_table_is_read_are_the_ones_it_is_read_by(here, monkeypatch):
    watched = WatchedPaths(["/old"])
    look = watched_module._inodes

    def meanwhile(root, paths):
        found = look(root, paths)
        if paths == ["/old"]:
            watched.replace(["/new"])
        return found

    monkeypatch.setattr(watched_module, "_inodes", meanwhile)
    watched.read(str(here))
    assert list(watched.tables()[str(here)]) == ["/new"]
