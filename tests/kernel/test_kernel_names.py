# SPDX-License-Identifier: Apache-2.0
"""Names that come, go and move: both ends, from where the call said, as the call said it."""

from __future__ import annotations

import os

import pytest

from monitor.events import Linked, ModeChanged, Name, Renamed, Symlinked, Truncated, Unlinked
from monitor.sessions.places import Roots, outer, resolve, view_of

CWD = -100
EXCHANGE = 2
NOREPLACE = 1
REMOVEDIR = 0x200
EMPTY_PATH = 0x1000
FOLLOW = 0x400


@pytest.fixture
def a(scratch):
    (scratch / "a").write_text("a")
    return os.fsencode(scratch / "a")


@pytest.fixture
def b(scratch):
    return os.fsencode(scratch / "b")


def absolute(path):
    return Name(None, os.fsdecode(path))


def where(name, root="/"):
    """The path a name stands for, by what the monitor makes of it."""
    return os.fsencode(resolve(name, root).path)


def the(inside, kind):
    [event] = inside.events(kind)
    return event


def test_rename_has_both_ends(inside, puppet, a, b):
    puppet("rename", a, b)
    renamed = the(inside, Renamed)
    assert (renamed.source, renamed.target) == (absolute(a), absolute(b))
    assert (renamed.tgid, renamed.cut) == (puppet.pid, False)


def test_a_rename_that_starts_at_directories_says_at_which(inside, puppet, a, scratch):
    for name in ("from", "to"):
        (scratch / name).mkdir()
    os.rename(a, scratch / "from" / "a")
    here, there = (
        puppet("openat", CWD, os.fsencode(scratch / name), os.O_RDONLY | os.O_DIRECTORY)
        for name in ("from", "to")
    )
    puppet("renameat2", here, b"a", there, b"b", NOREPLACE)
    renamed = the(inside, Renamed)
    assert (renamed.source.text, renamed.target.text) == ("a", "b")
    assert renamed.source.base.text == str(scratch / "from")
    assert renamed.target.base.text == str(scratch / "to")
    assert where(renamed.target) == os.fsencode(scratch / "to" / "b")


def test_a_relative_rename_starts_at_the_working_directory(inside, puppet, a, scratch):
    puppet("chdir", os.fsencode(scratch))
    puppet("renameat", CWD, b"a", CWD, b"b")
    renamed = the(inside, Renamed)
    assert renamed.source.base.text == renamed.target.base.text == str(scratch)
    assert where(renamed.target) == os.fsencode(scratch / "b")


def test_an_exchange_is_a_rename_with_both_ends(inside, puppet, a, b):
    os.link(a, b)
    os.unlink(a)
    os.mkdir(a)  # both must exist
    puppet("renameat2", CWD, a, CWD, b, EXCHANGE)
    renamed = the(inside, Renamed)
    assert (renamed.source, renamed.target) == (absolute(a), absolute(b))


def test_a_rename_that_failed_is_no_event(inside, puppet, a, b):
    with pytest.raises(FileNotFoundError):
        puppet("rename", b, a)
    assert inside.events() == []


def test_a_link_has_both_names(inside, puppet, a, b):
    puppet("link", a, b)
    linked = the(inside, Linked)
    assert (linked.source, linked.target) == (absolute(a), absolute(b))


def test_a_nameless_file_that_gets_a_name_is_a_link(inside, puppet, scratch, b):
    fd = puppet("openat", CWD, os.fsencode(scratch), os.O_WRONLY | os.O_TMPFILE, 0o600)
    puppet("linkat", CWD, b"/proc/self/fd/%d" % fd, CWD, b, FOLLOW)
    assert the(inside, Linked).target == absolute(b)


def test_a_link_from_a_descriptor_alone_tells_the_descriptors_path(inside, puppet, a, b):
    fd = puppet("openat", CWD, a, os.O_PATH)
    puppet("linkat", fd, b"", CWD, b, EMPTY_PATH)
    linked = the(inside, Linked)
    assert linked.source.text == ""
    assert linked.source.base.text == os.fsdecode(a)


@pytest.mark.parametrize("call", ["symlink", "symlinkat"])
def test_a_symlink_tells_what_it_holds_and_where_it_is(inside, puppet, b, call):
    arguments = (b"../any where", b) if call == "symlink" else (b"../any where", CWD, b)
    puppet(call, *arguments)
    made = the(inside, Symlinked)
    assert (made.text, made.target) == ("../any where", absolute(b))


def test_unlink_and_rmdir_are_removals(inside, puppet, a, scratch):
    (scratch / "d").mkdir()
    (scratch / "e").mkdir()
    (scratch / "f").touch()
    puppet("chdir", os.fsencode(scratch))
    puppet("unlink", a)
    puppet("rmdir", os.fsencode(scratch / "d"))
    puppet("unlinkat", CWD, b"e", REMOVEDIR)
    puppet("unlinkat", CWD, b"f", 0)
    gone = [os.path.basename(where(e.target)) for e in inside.events(Unlinked)]
    assert gone == [b"a", b"d", b"e", b"f"]


def test_truncate_tells_the_name_and_the_size(inside, puppet, a):
    puppet("truncate", a, 3)
    cut = the(inside, Truncated)
    assert (cut.target, cut.size) == (absolute(a), 3)


def test_ftruncate_tells_the_files_own_path(inside, puppet, a, scratch):
    (scratch / "link").symlink_to(os.fsdecode(a))
    fd = puppet("openat", CWD, os.fsencode(scratch / "link"), os.O_WRONLY)
    puppet("ftruncate", fd, 0)
    cut = the(inside, Truncated)
    assert (where(cut.target), cut.size) == (a, 0)


@pytest.mark.parametrize("mode", [0o755, 0o4644, 0o2644, 0o100])
def test_a_file_made_executable_or_setuid_is_an_event(inside, puppet, a, mode):
    fd = puppet("openat", CWD, a, os.O_RDONLY)
    inside.forget_events()
    puppet("chmod", a, mode)
    puppet("fchmodat", CWD, a, mode)
    puppet("fchmod", fd, mode)
    changed = inside.events(ModeChanged)
    assert [(where(e.target), e.mode) for e in changed] == [(a, mode)] * 3


def test_any_other_mode_is_none(inside, puppet, a):
    puppet("chmod", a, 0o644)
    assert inside.events() == []


def test_the_newest_chmod_is_seen_where_the_kernel_has_it(inside, puppet, a):
    try:
        puppet("fchmodat2", CWD, a, 0o700, 0)
    except (KeyError, OSError) as error:
        pytest.skip(f"no fchmodat2 here: {error}")
    assert the(inside, ModeChanged).mode == 0o700


@pytest.mark.parametrize("name", [b"new\nline", b"\x1b[31m", b"\xff\xfe"])
def test_names_in_calls_arrive_byte_for_byte(inside, puppet, a, scratch, name):
    to = os.fsencode(scratch) + b"/" + name
    puppet("rename", a, to)
    assert os.fsencode(the(inside, Renamed).target.text) == to


def padded(path: bytes) -> bytes:
    """The longest spelling of a path that a call takes."""
    directory, _, leaf = path.rpartition(b"/")
    room = 4095 - len(path)
    return directory + b"/." * (room // 2) + b"/" + leaf


def test_two_names_of_the_longest_kind_arrive_whole(inside, puppet, a, scratch):
    deep = scratch / "/".join(["d" * 200] * 8)  # as far as the call can still name it
    deep.mkdir(parents=True)
    puppet("chdir", os.fsencode(deep))
    up = b"../" * 8
    source, target = up + b"./" * 1900 + b"a", up + b"./" * 1900 + b"b"
    puppet("rename", source, target)
    renamed = the(inside, Renamed)
    assert not renamed.cut
    assert os.fsencode(renamed.source.text) == source
    assert os.fsencode(renamed.target.text) == target
    assert renamed.target.base.text == str(deep)
    assert where(renamed.target) == os.fsencode(scratch / "b")


def test_absolute_names_of_the_longest_kind_arrive_whole(inside, puppet, a, b):
    puppet("rename", padded(a), padded(b))
    renamed = the(inside, Renamed)
    assert os.fsencode(renamed.target.text) == padded(b)
    assert not renamed.cut


@pytest.mark.parametrize("name", [b"/b", b"b", b"../../../b"])
def test_a_name_inside_a_chroot_leads_to_the_real_place(inside, puppet, a, scratch, name):
    puppet("chroot", os.fsencode(scratch))
    puppet("chdir", b"/")
    puppet("rename", b"/a", name)
    renamed = the(inside, Renamed)
    root = Roots().root(renamed.view, [puppet.pid])
    place = resolve(renamed.target, root)
    assert (place.path, place.outer) == ("/b", str(scratch / "b"))


def test_where_a_session_began_stays_within_reach_after_its_root_process_went_elsewhere(
    puppet, scratch
):
    now = [0.0]
    roots = Roots(keep_s=60, clock=lambda: now[0])
    (scratch / "deeper").mkdir()
    puppet("chroot", os.fsencode(scratch))
    first = view_of(puppet.pid)
    found = roots.root(first, [puppet.pid])
    assert os.readlink(found) == str(scratch)
    assert outer("/hosts", found) == str(scratch / "hosts")
    puppet("chroot", b"/deeper")
    now[0] = 100.0
    roots.release(keep={first})
    assert roots.root(first, [puppet.pid]) == found
    now[0] = 200.0
    roots.release()
    assert roots.root(first, [puppet.pid]) == "/"
