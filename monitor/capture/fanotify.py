# SPDX-License-Identifier: Apache-2.0
"""The fanotify calls and their records, as fanotify(7) and <linux/fanotify.h> lay them out; no policy.

No package fits: pyfanotify raises on permission events ("not supported yet") and butter was last
released in 2021. So these are the calls themselves, through glibc.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress
from enum import IntFlag
from typing import NamedTuple

_CLOEXEC = 0x1
_NONBLOCK = 0x2
_CLASS_CONTENT = 0x4
_UNLIMITED_QUEUE = 0x10
_UNLIMITED_MARKS = 0x20
_REPORT_TID = 0x100

_MARK_ADD = 0x1
_MARK_REMOVE = 0x2
_MARK_FLUSH = 0x80

_ALLOW = 1
_DENY = 2

_AT_FDCWD = -100
_NO_FD = -1
_O_LARGEFILE = 0o100000
"""glibc defines it as 0 on 64-bit; the kernel wants the bit, or files over 2 GiB fail."""

# struct fanotify_event_metadata: event_len, vers, reserved, metadata_len, mask, fd, pid.
_METADATA = struct.Struct("=IBBHQii")
_VERSION = 3
# struct fanotify_response: fd, response.
_RESPONSE = struct.Struct("=iI")
_BATCH = 64
"""Events of one read: each takes a descriptor of ours until it is answered."""

# Not the process that opens but this one gets a descriptor for each event, opened with these flags.
# NONBLOCK, because the open of a fifo would wait for a writer, and that of a leased file up to 45 s
# for its holder: whoever asks would hold the monitor. NOATIME, because we only look.
_EVENT_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOATIME | _O_LARGEFILE

_libc = ctypes.CDLL(None, use_errno=True)


class Mask(IntFlag):
    """What a mark asks for, and what an event is."""

    Q_OVERFLOW = 0x4000
    OPEN_PERM = 0x10000
    OPEN_EXEC_PERM = 0x40000
    EVENT_ON_CHILD = 0x08000000


class Record(NamedTuple):
    """One event. `fd` is open for us and has to be answered; -1 where events were lost."""

    mask: int
    fd: int
    tid: int


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def open_group() -> int:
    """A group for permission events; the descriptor answers them, and ends all its marks when closed.

    Unlimited, because the kernel *permits* what a full queue has no room for. The queue is bounded
    all the same: a task that asks is asleep. An event names the thread (Linux 4.20), because only
    of a thread can be said which call it is asleep in. OSError without CAP_SYS_ADMIN, or on a
    kernel without CONFIG_FANOTIFY_ACCESS_PERMISSIONS.
    """
    flags = (
        _CLOEXEC | _NONBLOCK | _CLASS_CONTENT | _UNLIMITED_QUEUE | _UNLIMITED_MARKS | _REPORT_TID
    )
    return _checked(_libc.fanotify_init(flags, _EVENT_FLAGS))


def _mark(group: int, flags: int, mask: int, path: str | None) -> None:
    where = None if path is None else os.fsencode(path)
    _checked(_libc.fanotify_mark(group, flags, ctypes.c_uint64(mask), _AT_FDCWD, where))


def add_mark(group: int, path: str, mask: Mask) -> None:
    """Ask about the inode at `path`; about 1 us, and the same again if it is marked already."""
    _mark(group, _MARK_ADD, mask, path)


def remove_mark(group: int, path: str, mask: Mask) -> None:
    """Ask no more; an inode that is not marked is an OSError."""
    _mark(group, _MARK_REMOVE, mask, path)


def remove_all_marks(group: int) -> None:
    """Every inode mark of the group, also of those that no path leads to any more."""
    # With FLUSH the path means nothing, but has to lead somewhere.
    _mark(group, _MARK_FLUSH, 0, "/")


def read(group: int) -> list[Record]:
    """The next events, none if there are none.

    OSError where the kernel could not open an event's file for us (no descriptor left, a lease): it
    has refused that open by itself. BlockingIOError is one of these, and also means no event.
    """
    data = os.read(group, _METADATA.size * _BATCH)
    records, at = [], 0
    while at < len(data):
        length, version, _, _, mask, fd, tid = _METADATA.unpack_from(data, at)
        if version != _VERSION:
            raise RuntimeError(f"fanotify speaks version {version}, not {_VERSION}")
        records.append(Record(mask, fd, tid))
        at += length
    return records


def respond(group: int, fd: int, *, allow: bool) -> None:
    """Answer the event of `fd` and close it: once, since its number then stands for another event."""
    try:
        # The asker may have been killed meanwhile. Then nobody waits for it.
        with suppress(FileNotFoundError):
            os.write(group, _RESPONSE.pack(fd, _ALLOW if allow else _DENY))
    finally:
        os.close(fd)


def lost(record: Record) -> bool:
    """True for the record that stands for those that did not fit into the queue."""
    return record.fd == _NO_FD or bool(record.mask & Mask.Q_OVERFLOW)
