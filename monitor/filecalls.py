# SPDX-License-Identifier: Apache-2.0
"""openat2(2) and statx(2), which `os` does not have; no policy.

Flags and structs are those of <linux/openat2.h> and <linux/stat.h>. A failure is the kernel's own OSError.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

RESOLVE_IN_ROOT = 0x10
"""`..` and absolute links stay below the directory."""
RESOLVE_CACHED = 0x20
"""Of what the kernel knows, without asking a file system: else BlockingIOError."""
AT_FDCWD = -100
_AT_EMPTY_PATH, _AT_STATX_DONT_SYNC = 0x1000, 0x4000
_NR_OPENAT2 = 437
_HOW = struct.Struct("<QQQ")
_BASIC, _MNT_ID = 0x7FF, 0x1000
"""The mount's number is there since Linux 5.8."""
_STATX_BYTES, _MODE, _INO, _DEVICE, _MOUNT = 256, 28, 32, 136, 144
_libc = ctypes.CDLL(None, use_errno=True)


class Status(NamedTuple):
    """Device, inode and mode as `os.stat` has them, and the number of the mount."""

    device: int
    inode: int
    mode: int
    mount: int


def openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    """A descriptor, without close-on-exec unless `flags` has it."""
    how = _HOW.pack(flags, 0, resolve)
    return call(_NR_OPENAT2, directory, path, how, len(how))


def status_at_hand(directory: int, path: bytes = b"") -> Status:
    """As it is known: a file system is not asked for the attributes, but for names in `path` it may be.

    Without a path of the descriptor itself.
    """
    found = ctypes.create_string_buffer(_STATX_BYTES)
    flags = _AT_STATX_DONT_SYNC if path else _AT_STATX_DONT_SYNC | _AT_EMPTY_PATH
    if _libc.statx(directory, path, flags, _BASIC | _MNT_ID, found):
        raise _failure()
    (mode,) = struct.unpack_from("H", found, _MODE)
    (inode,) = struct.unpack_from("Q", found, _INO)
    (mount,) = struct.unpack_from("Q", found, _MOUNT)
    return Status(os.makedev(*struct.unpack_from("II", found, _DEVICE)), inode, mode, mount)


def call(number: int, *arguments: object) -> int:
    """A system call that has no function in the C library."""
    result = _libc.syscall(number, *arguments)
    if result < 0:
        raise _failure()
    return int(result)


def _failure() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
