# SPDX-License-Identifier: Apache-2.0
"""Files that are opened: which file, how, and how often that is said."""

from __future__ import annotations

import os
import struct
import subprocess
import time

import pytest

from monitor.events import Access, Event, Opened
from monitor.sessions.places import view_of

CWD = -100
O_TMPFILE = os.O_TMPFILE
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
RESOLVE_ANYHOW = struct.pack("<QQQ", os.O_RDONLY, 0, 0)


@pytest.fixture
def file(scratch):
    path = scratch / "file"
    path.write_text("content")
    return path


def only_opened(inside):
    [event] = inside.events()
    assert isinstance(event, Opened)
    return event


@pytest.mark.parametrize(
    ("flags", "access"),
    [
        (os.O_RDONLY, Access.READ),
        (os.O_WRONLY, Access.WRITE),
        (os.O_RDWR, Access.READ | Access.WRITE),
        (os.O_WRONLY | os.O_CREAT, Access.WRITE),
        (os.O_RDONLY | os.O_TRUNC, Access.READ),
    ],
    ids=["read", "write", "both", "would create", "truncate"],
)
def test_an_open_says_how_the_kernel_granted_it(inside, puppet, file, flags, access):
    puppet("openat", CWD, os.fsencode(file), flags, 0o600)
    opened = only_opened(inside)
    assert opened.access == access
    assert (opened.file.path.text, opened.file.path.within) == (str(file), within(file))
    assert (opened.file.path.device, opened.file.inode) == key(file)
    assert opened.file.parent_inode == file.parent.stat().st_ino
    assert (opened.file.mode, opened.file.links) == (file.stat().st_mode, 1)
    assert (opened.tgid, opened.uid, opened.cut) == (puppet.pid, 0, False)
    assert abs(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - opened.ktime_ns) < 5e9


def within(path):
    top = next(p for p in path.parents if p.is_mount())  # where /tmp is a filesystem, it is that
    return f"/{path.relative_to(top)}"


def key(path):
    return path.stat().st_dev, path.stat().st_ino


def test_a_file_that_the_open_made_is_created(inside, puppet, scratch):
    puppet("openat", CWD, os.fsencode(scratch / "new"), os.O_WRONLY | os.O_CREAT, 0o600)
    assert only_opened(inside).access == Access.WRITE | Access.CREATED


def test_creat_and_open_are_opens_too(inside, puppet, scratch, file):
    puppet("creat", os.fsencode(scratch / "new"), 0o600)
    puppet("open", os.fsencode(file), os.O_RDONLY)
    assert [e.file.path.text for e in inside.events(Opened)] == [str(scratch / "new"), str(file)]


def spell_symlink(puppet, file):
    (file.parent / "link").symlink_to(file)
    (file.parent / "directory").symlink_to(file.parent)
    puppet("openat", CWD, os.fsencode(file.parent / "directory" / "link"), os.O_RDONLY)


def spell_proc_root(puppet, file):
    puppet("openat", CWD, b"/proc/self/root" + os.fsencode(file), os.O_RDONLY)


def spell_relative(puppet, file):
    (file.parent / "below").mkdir()
    puppet("chdir", os.fsencode(file.parent / "below"))
    puppet("openat", CWD, b".././below/..//file", os.O_RDONLY)


def spell_openat2(puppet, file):
    how = puppet.place(RESOLVE_ANYHOW)
    puppet("openat2", CWD, os.fsencode(file), how, len(RESOLVE_ANYHOW))


def spell_descriptor(puppet, file):
    held = puppet("openat", CWD, os.fsencode(file), os.O_PATH)
    puppet("openat", CWD, b"/proc/self/fd/%d" % held, os.O_RDONLY)


def spell_handle(puppet, file):
    handle = puppet.place(struct.pack("<Ii", 128, 0) + bytes(128))
    mount_id = puppet.place(bytes(8))
    try:
        puppet("name_to_handle_at", CWD, os.fsencode(file), handle, mount_id, 0)
    except OSError as error:
        pytest.skip(f"this file system has no handles: {error}")
    above = puppet("openat", CWD, os.fsencode(file.parent), os.O_RDONLY | os.O_DIRECTORY)
    puppet("open_by_handle_at", above, handle, os.O_RDONLY)


@pytest.mark.parametrize(
    "spell",
    [
        spell_symlink, spell_proc_root, spell_relative, spell_openat2, spell_descriptor,
        spell_handle,
    ],
    ids=lambda f: f.__name__.removeprefix("spell_"),
)  # fmt: skip
def test_however_the_caller_spells_it_the_path_is_the_files_own(inside, puppet, file, spell):
    spell(puppet, file)
    opened = only_opened(inside)
    assert opened.file.path.text == str(file)
    assert opened.file.inode == file.stat().st_ino


def test_a_hard_link_shows_its_own_name_and_the_inode_of_the_file(inside, puppet, file):
    (file.parent / "other").hardlink_to(file)
    puppet("openat", CWD, os.fsencode(file.parent / "other"), os.O_WRONLY)
    opened = only_opened(inside)
    assert opened.file.path.text == str(file.parent / "other")
    assert opened.file.inode == file.stat().st_ino
    assert opened.file.links == 2


def test_in_a_chroot_the_path_is_the_agents_and_the_other_spelling_the_real_one(
    inside, puppet, file
):
    puppet("chroot", os.fsencode(file.parent))
    puppet("openat", CWD, b"/file", os.O_RDONLY)
    opened = only_opened(inside)
    assert opened.file.path.text == "/file"
    assert opened.file.path.within == mounted_at(file)
    assert opened.view == view_of(puppet.pid) != view_of()


def test_two_roots_with_one_inode_number_are_two_views(inside, puppet, scratch):
    """Every tmpfs begins with the same number, and so do overlays of one directory."""
    puppet("unshare", CLONE_NEWNS)
    puppet("mount", b"none", b"/", 0, MS_REC | MS_PRIVATE, 0)
    directories, views, inodes = [], [], []
    for name in ("one", "two"):
        (scratch / name).mkdir()
        puppet("mount", b"none", os.fsencode(scratch / name), b"tmpfs", 0, 0)
        directories.append(puppet("openat", CWD, os.fsencode(scratch / name), os.O_DIRECTORY))
        inodes.append(os.stat(f"/proc/{puppet.pid}/fd/{directories[-1]}").st_ino)
    for directory in directories:
        puppet("fchdir", directory)
        puppet("chroot", b".")
        puppet("openat", CWD, b"/new", os.O_WRONLY | os.O_CREAT, 0o600)
        opened = inside.wait(Opened, lambda e: e.file.path.text == "/new" and e.view not in views)
        views.append(opened.view)
        assert opened.view == view_of(puppet.pid)
    assert inodes[0] == inodes[1]
    assert views[0].mnt_ns == views[1].mnt_ns
    assert views[0] != views[1]


@pytest.mark.usefixtures("nothing_refused")
def test_a_descriptor_taken_from_another_process_is_an_open_here(inside, puppet, file):
    with file.open("rb") as held:
        pidfd = puppet("pidfd_open", os.getpid(), 0)
        puppet("pidfd_getfd", pidfd, held.fileno(), 0)
    assert only_opened(inside).file.path.text == str(file)


MOUNT_THEN_WRITE = """
mount --bind "$1" "$2" && : > "$2/below/file"
"""


def test_a_bind_mount_shows_both_spellings(inside, scratch):
    for name in ("real/below", "alias"):
        (scratch / name).mkdir(parents=True)
    inside.run(
        "/usr/bin/unshare", "-m", "/bin/sh", "-c", MOUNT_THEN_WRITE, "sh",
        scratch / "real", scratch / "alias",
    )  # fmt: skip
    path = inside.wait(Opened, lambda e: bool(e.access & Access.CREATED)).file.path
    assert path.text == str(scratch / "alias/below/file")
    assert path.within == mounted_at(scratch / "real/below/file")


def mounted_at(path):
    """A path from the root of its own file system."""
    out = subprocess.run(
        ["findmnt", "-no", "TARGET", "-T", path.parent], capture_output=True, text=True, check=True
    ).stdout.strip()
    return "/" + str(path.relative_to(out))


def test_a_tmpfs_is_a_file_system_of_its_own(inside, puppet):
    shm = f"/dev/shm/estop-test-{os.getpid()}"
    puppet("openat", CWD, shm.encode(), os.O_WRONLY | os.O_CREAT, 0o600)
    puppet("unlink", shm.encode())
    opened = inside.events(Opened)[0]
    assert opened.file.path.text == shm
    assert opened.file.path.within == mounted_at_shm(shm)
    assert opened.file.path.device == os.stat("/dev/shm").st_dev


def mounted_at_shm(path):
    return path.removeprefix("/dev/shm") if os.path.ismount("/dev/shm") else path


def test_a_file_without_a_name_has_no_links(inside, puppet, scratch):
    puppet("openat", CWD, os.fsencode(scratch), os.O_WRONLY | O_TMPFILE, 0o600)
    assert only_opened(inside).file.links == 0


def test_what_gives_no_content_is_no_event(inside, puppet, file):
    puppet("openat", CWD, os.fsencode(file), os.O_PATH)
    puppet("openat", CWD, os.fsencode(file.parent), os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(FileNotFoundError):
        puppet("openat", CWD, os.fsencode(file.parent / "nothing"), os.O_RDONLY)
    assert inside.events() == []


def test_a_thousand_opens_are_one_event_and_the_next_one_carries_the_count(inside, file):
    inside.run("flood", "same", file, "1000")
    opens = inside.events(Opened)
    inside.run("flood", "same", file, "1000")
    opens += inside.events(Opened)
    time.sleep(0.12)  # write_again_ms is 100
    inside.run("flood", "same", file, "1")
    opens += inside.events(Opened)
    # A busy machine may let a window pass in the middle; the sum does not depend on it.
    assert 2 <= len(opens) <= 10
    assert opens[0].repeats == 0
    assert sum(1 + e.repeats for e in opens) == 2001


def test_a_file_that_is_read_again_after_a_second_is_no_news(inside, puppet, file):
    for _ in range(2):
        puppet("openat", CWD, os.fsencode(file), os.O_RDONLY)
        time.sleep(1.1)  # read_again_ms is 10,000
    assert len(inside.events(Opened)) == 1


def told(inside, file):
    return [(e.tgid, e.access) for e in inside.events(Opened) if e.file.inode == file.stat().st_ino]


def test_who_reads_what_was_written_after_a_secret_was_touched_is_told_each_time(
    inside, puppet, kernel, file
):
    """Which process it is decides what is made of its next contact."""
    other = inside.puppet()
    read = ("openat", CWD, os.fsencode(file), os.O_RDONLY)
    write = ("openat", CWD, os.fsencode(file), os.O_WRONLY)
    for call in (read, read):
        puppet(*call)
    kernel.taint(inside.slot)
    puppet(*read)
    assert told(inside, file) == [(puppet.pid, Access.READ)]
    other(*write)
    puppet(*read)
    other(*read)
    assert told(inside, file) == [
        (other.pid, Access.WRITE), (puppet.pid, Access.READ), (other.pid, Access.READ),
    ]  # fmt: skip
    kernel.forget_touches()  # a resume does not make it harmless
    for process in (puppet, puppet, other):
        process(*read)
    assert [pid for pid, _ in told(inside, file)] == [puppet.pid, puppet.pid, other.pid]


def test_who_reads_what_gave_a_secret_away_is_told_each_time(inside, puppet, kernel, file):
    other = inside.puppet()
    read = ("openat", CWD, os.fsencode(file), os.O_RDONLY)
    puppet(*read)
    kernel.taint(inside.slot)
    kernel.mark_file(inside.slot, file.stat().st_ino)
    for process in (other, puppet):
        process(*read)
    assert [pid for pid, _ in told(inside, file)] == [puppet.pid, other.pid, puppet.pid]


def test_reading_and_writing_one_file_are_two_events(inside, puppet, file):
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDONLY, os.O_WRONLY):
        puppet("openat", CWD, os.fsencode(file), flags)
    assert [e.access for e in inside.events(Opened)] == [Access.READ, Access.WRITE]


def test_another_program_that_touches_the_file_is_another_event(inside, file):
    inside.run("flood", "same", file, "2")
    inside.run("/bin/dd", f"of={file}", "if=/dev/null", "status=none", "conv=notrunc")
    writes = [e for e in inside.events(Opened) if e.file.path.text == str(file)]
    assert len(writes) == 2
    assert writes[0].tgid != writes[1].tgid


def test_another_name_of_a_file_that_was_touched_is_another_event(inside, puppet, file):
    (file.parent / "other").hardlink_to(file)
    for name in ("file", "other", "file", "other"):
        puppet("openat", CWD, os.fsencode(file.parent / name), os.O_RDONLY)
    names = [os.path.basename(e.file.path.text) for e in inside.events(Opened)]
    assert names == ["file", "other"]


def test_after_forgetting_the_touches_an_open_is_news_again(inside, puppet, file, kernel):
    for _ in range(2):
        puppet("openat", CWD, os.fsencode(file), os.O_RDONLY)
        kernel.forget_touches()
    assert len(inside.events(Opened)) == 2


@pytest.mark.parametrize("name", [b"new\nline", b"\x1b[2Jescape", b"\xff\xfe not utf-8", b"'\"\\"])
def test_names_arrive_byte_for_byte(inside, puppet, scratch, name):
    path = os.fsencode(scratch) + b"/" + name
    puppet("openat", CWD, path, os.O_WRONLY | os.O_CREAT, 0o600)
    assert os.fsencode(only_opened(inside).file.path.text) == path


def test_a_path_too_deep_for_the_record_keeps_its_leaf_and_says_that_it_is_cut(
    inside, puppet, scratch
):
    puppet("chdir", os.fsencode(scratch))
    for _ in range(20):
        puppet("mkdirat", CWD, b"d" * 250, 0o700)
        puppet("chdir", b"d" * 250)
    puppet("openat", CWD, b"leaf", os.O_WRONLY | os.O_CREAT, 0o600)
    subprocess.run(["rm", "-rf", scratch / ("d" * 250)], check=True)
    opened = only_opened(inside)
    assert opened.cut
    assert opened.file.path.text.endswith("d" * 250 + "/leaf")
    assert opened.file.inode


def test_the_32_bit_entry_is_seen_and_its_numbers_are_its_own(inside, puppet, file):
    try:
        puppet.compat("getpid")
    except (OSError, ValueError) as error:  # ValueError: it died of SIGSEGV and said nothing
        pytest.skip(f"no 32-bit entry here: {error}")
    puppet.compat("open", os.fsencode(file), os.O_WRONLY)
    puppet.compat("rename", os.fsencode(file), os.fsencode(file) + b"2")
    opened, renamed = inside.events(Event)
    assert opened.file.path.text == str(file)
    assert (renamed.source.text, renamed.target.text) == (str(file), f"{file}2")
