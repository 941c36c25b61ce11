# SPDX-License-Identifier: Apache-2.0
"""Where names lead, and under which names a file is known."""

from __future__ import annotations

import os
import subprocess

import pytest

from monitor.events import Name, Path, View
from monitor.sessions import places
from monitor.sessions import watched as watched_module
from monitor.sessions.places import HostMounts, Roots, below, resolve, view_of
from monitor.sessions.watched import WatchedPaths


@pytest.fixture
def here(tmp_path):
    return tmp_path.resolve()


def absolute(path):
    return Name(None, str(path))


def relative(base, text):
    return Name(Path(str(base), str(base), 0), text)


def identity(path):
    found = os.lstat(path)
    return found.st_dev, found.st_ino


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


# Mounts -----------------------------------------------------------------------------------------

TABLE = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 8:2 / /home rw - ext4 /dev/sda2 rw
31 21 8:2 /ann/my\\040files /mnt/with\\040space rw - ext4 /dev/sda2 rw
32 21 8:1 /etc/hosts /jail/etc/hosts rw - ext4 /dev/sda1 rw
33 21 0:44 / /odd\\134name\\011\\012 rw - tmpfs tmpfs rw
"""


@pytest.fixture
def mounts(here):
    (here / "mountinfo").write_text(TABLE)
    table = HostMounts(here / "mountinfo")
    yield table
    table.close()


@pytest.mark.parametrize(
    ("device", "within", "spellings"),
    [
        ((8, 1), "/usr/x", ["/usr/x"]),
        ((8, 1), "/etc/hosts", ["/etc/hosts", "/jail/etc/hosts"]),
        ((8, 1), "/etc/hosts2", ["/etc/hosts2"]),
        ((8, 2), "/bob/x", ["/home/bob/x"]),
        ((8, 2), "/ann/my files/x", ["/home/ann/my files/x", "/mnt/with space/x"]),
        ((0, 44), "/f", ["/odd\\name\t\n/f"]),
        ((7, 7), "/f", []),
    ],
)
def test_a_file_has_a_spelling_for_every_mount_that_shows_it(mounts, device, within, spellings):
    assert list(mounts.spellings(os.makedev(*device), within)) == spellings


def test_the_hosts_own_table_knows_this_file():
    mounts = HostMounts()
    try:
        mounts.refresh()
        spellings = mounts.spellings(os.stat("/").st_dev, "/some/file")
        assert "/some/file" in spellings or not spellings  # `/` may be a subdirectory elsewhere
    finally:
        mounts.close()


# Watched paths ----------------------------------------------------------------------------------


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
    watched = WatchedPaths(["/etc/hosts"], on_change=told.append)
    inside = identity(here / "etc" / "hosts")
    assert watched.aliases(str(here), *inside) == ()
    assert told == []
    watched.follow(0)
    assert watched.aliases(str(here), *inside) == ["/etc/hosts"]
    assert told == [{"/etc/hosts": {inside}}]
    watched.follow(0)
    watched.refresh()
    assert len(told) == 1


def test_a_name_that_changed_is_known_at_once_and_told_by_whoever_follows(here):
    told, names = [], []
    watched = WatchedPaths([str(here / "late")], told.append, names.extend)
    watched.read("/")
    (here / "late").touch()
    watched.changed("late")
    assert watched.aliases("/", *identity(here / "late"))
    assert names == [(str(here / "late"), str(here / "late"))]
    before = len(told)
    watched.follow(0)
    assert told[before:] == [{str(here / "late"): {identity(here / "late")}}]


def test_what_changes_while_a_table_is_read_is_looked_at_again(here, monkeypatch):
    watched = WatchedPaths([str(here / "hosts")])
    watched.read("/")
    look = watched_module._look

    def meanwhile(root, paths):
        found = look(root, paths)
        if not (here / "hosts").exists():
            (here / "hosts").touch()
            watched.changed("hosts")
        return found

    monkeypatch.setattr(watched_module, "_look", meanwhile)
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
