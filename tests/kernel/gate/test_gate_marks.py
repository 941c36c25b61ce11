# SPDX-License-Identifier: Apache-2.0
"""What is asked about is what is marked: files, and what comes to be in marked directories."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from calls import CWD
from gates import ROOT, inode_of
from ways import CLONE_NEWNS, MS_PRIVATE, MS_REC, by_path


def test_a_file_that_replaces_a_watched_one_is_asked_about_after_it_is_marked(guard, puppet, file):
    """The race: between the rename and the mark nobody is asked."""
    guard.watch(file)
    guard.refusing()
    (file.parent / "new").write_text("new")
    os.rename(file.parent / "new", file)
    by_path(puppet, file, os.O_WRONLY)
    assert not guard.questions
    guard.gate.mark(str(file))
    guard.done()
    with pytest.raises(PermissionError):
        by_path(puppet, file, os.O_WRONLY)


def test_an_inode_number_that_was_given_anew_is_marked_anew(guard, puppet, file):
    """Ext4 gives the number of a removed file to the next one at once."""
    number = file.stat().st_ino
    guard.watch(file)
    guard.refusing()
    file.unlink()
    for n in range(200):
        file.write_text("another")
        if file.stat().st_ino == number:
            break
        file.rename(file.parent / f"{n}")
    else:
        pytest.skip("this file system does not give numbers anew")
    guard.watch(file)
    with pytest.raises(PermissionError):
        by_path(puppet, file, os.O_WRONLY)


def test_a_file_made_later_in_a_watched_directory_is_asked_about_at_once(guard, puppet, scratch):
    guard.watch(directories=(scratch,))
    guard.refusing()
    with pytest.raises(PermissionError):
        puppet("open", os.fsencode(scratch / "late"), os.O_WRONLY | os.O_CREAT, 0o600)
    (scratch / "other").write_text("content")
    (scratch / "third").write_text("content")
    os.rename(scratch / "third", scratch / "other")
    with pytest.raises(PermissionError):
        by_path(puppet, scratch / "other", os.O_RDONLY)
    puppet("openat", CWD, os.fsencode(scratch), os.O_RDONLY | os.O_DIRECTORY)  # to list is free


def test_a_mark_on_a_directory_does_not_reach_a_name_elsewhere(guard, puppet, scratch):
    """What a directory cannot do, and a mark on the file itself can."""
    (scratch / "inside").mkdir()
    (scratch / "inside" / "file").touch()
    (scratch / "outside").hardlink_to(scratch / "inside" / "file")
    guard.watch(directories=(scratch / "inside",))
    guard.refusing()
    by_path(puppet, scratch / "outside", os.O_WRONLY)
    guard.watch(scratch / "inside" / "file")
    with pytest.raises(PermissionError):
        by_path(puppet, scratch / "outside", os.O_WRONLY)


def test_what_is_not_wanted_any_more_is_not_asked_about(guard, puppet, scratch):
    for name in ("one", "two"):
        (scratch / name).touch()
    guard.watch(scratch / "one", scratch / "two")
    guard.refusing()
    guard.watch(scratch / "two")
    by_path(puppet, scratch / "one", os.O_WRONLY)
    with pytest.raises(PermissionError):
        by_path(puppet, scratch / "two", os.O_WRONLY)
    os.rename(scratch / "two", scratch / "moved")  # no path we know leads to it
    guard.watch()
    by_path(puppet, scratch / "moved", os.O_WRONLY)
    assert guard.gate.tally.marks == 0


def test_devices_and_fifos_are_never_marked(guard, scratch):
    os.mkfifo(scratch / "fifo")
    (scratch / "link").symlink_to("/dev/null")
    paths = [scratch / "fifo", scratch / "link"]
    guard.gate.set_marks({inode_of(p): str(p) for p in paths}, {})
    guard.done()
    guard.gate.take()
    assert guard.gate.unmarked == {str(p): "not a regular file" for p in paths}
    guard.gate.unmarked.clear()
    guard.gate.mark(str(scratch / "fifo"))
    guard.done()
    guard.gate.take()
    assert guard.gate.unmarked == {str(scratch / "fifo"): "not a regular file"}


FUSE = """
import ctypes, os, sys
sys.path[:0] = [{root!r}]
from monitor.capture.opengate import OpenGate
libc = ctypes.CDLL(None, use_errno=True)
assert not libc.unshare({newns})
assert not libc.mount(b'none', b'/', None, {private}, None)
device = os.open('/dev/fuse', os.O_RDWR)
options = b'fd=%d,rootmode=40000,user_id=0,group_id=0' % device
assert not libc.mount(b'none', {point!r}, b'fuse', 0, options), os.strerror(ctypes.get_errno())
[row] = [r.split() for r in open('/proc/self/mountinfo') if ' - fuse ' in r]
major, minor = map(int, row[2].split(':'))
refused = OpenGate().add_marks({{}}, {{(os.makedev(major, minor), 1): row[4]}})
assert 'FUSE' in refused[row[4]], refused
"""


def test_a_file_system_that_a_program_serves_is_not_touched(scratch):
    """This one never answers: a mere look at it would wait for ever."""
    if not Path("/dev/fuse").exists():
        pytest.skip("no FUSE here")
    script = FUSE.format(
        root=str(ROOT), newns=CLONE_NEWNS, private=MS_REC | MS_PRIVATE, point=os.fsencode(scratch)
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=10)


def test_a_path_that_leads_elsewhere_by_now_marks_nothing(guard, scratch, file):
    guard.gate.set_marks({(1, 1): str(file)}, {})
    guard.done()
    assert guard.gate.tally.marks == 0
    assert not guard.gate.unmarked


def test_marking_two_hundred_files_again_is_cheap(guard, scratch):
    paths = [scratch / f"{n}" for n in range(200)]
    for path in paths:
        path.touch()
    guard.watch(*paths)
    start = time.perf_counter()
    guard.watch(*paths)
    took_ms = (time.perf_counter() - start) * 1000
    print(f"200 marks set again in {took_ms:.1f} ms")
    assert took_ms < 100
