# SPDX-License-Identifier: Apache-2.0
"""Every way that leads to the inode of a file: each opens it with the given flags."""

from __future__ import annotations

import os
import struct

import pytest
from calls import CWD

CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000


def by_path(puppet, file, flags):
    puppet("openat", CWD, os.fsencode(file), flags)


def by_symlink(puppet, file, flags):
    (file.parent / "link").symlink_to(file)
    puppet("openat", CWD, os.fsencode(file.parent / "link"), flags)


def by_hard_link(puppet, file, flags):
    (file.parent / "other").hardlink_to(file)
    puppet("openat", CWD, os.fsencode(file.parent / "other"), flags)


def by_proc_root(puppet, file, flags):
    puppet("open", b"/proc/self/root" + os.fsencode(file), flags)


def by_descriptor(puppet, file, flags):
    held = puppet("openat", CWD, os.fsencode(file), os.O_PATH)
    puppet("open", b"/proc/self/fd/%d" % held, flags)


def by_bind_mount(puppet, file, flags):
    (file.parent / "elsewhere").touch()
    puppet("unshare", CLONE_NEWNS)
    puppet("mount", b"none", b"/", 0, MS_REC | MS_PRIVATE, 0)
    puppet("mount", os.fsencode(file), os.fsencode(file.parent / "elsewhere"), 0, MS_BIND, 0)
    puppet("open", os.fsencode(file.parent / "elsewhere"), flags)


def by_handle(puppet, file, flags):
    handle = puppet.place(struct.pack("<Ii", 128, 0) + bytes(128))
    mount_id = puppet.place(bytes(8))
    try:
        puppet("name_to_handle_at", CWD, os.fsencode(file), handle, mount_id, 0)
    except OSError as error:
        pytest.skip(f"this file system has no handles: {error}")
    above = puppet("openat", CWD, os.fsencode(file.parent), os.O_RDONLY | os.O_DIRECTORY)
    puppet("open_by_handle_at", above, handle, flags)


def by_openat2(puppet, file, flags):
    how = puppet.place(struct.pack("<QQQ", flags, 0, 0))
    puppet("openat2", CWD, os.fsencode(file), how, 24)


def by_creat(puppet, file, flags):
    puppet("creat", os.fsencode(file), 0o600)


def by_the_32_bit_entry(puppet, file, flags):
    puppet.compat("open", puppet.place(os.fsencode(file)), flags)


WAYS = [
    by_path, by_symlink, by_hard_link, by_proc_root, by_descriptor, by_bind_mount, by_handle,
    by_openat2, by_creat, by_the_32_bit_entry,
]  # fmt: skip
