# SPDX-License-Identifier: Apache-2.0
"""The bpffs of one runtime directory: mounted, checked, unmounted; what is pinned there is `pins.py`'s.

An instance of our own and not /sys/fs/bpf: its root is closed to everybody else, and unmounting it
removes whatever is left in it.
"""

from __future__ import annotations

import ctypes
import os
from errno import EINVAL
from pathlib import Path

import structlog

from monitor.errors import CaptureError

_MAGIC = 0xCAFE4A11  # BPF_FS_MAGIC of <linux/magic.h>
_STATFS_BYTES = 256
_MNT_DETACH = 2
_NOSUID_NODEV_NOEXEC = 2 | 4 | 8

_libc = ctypes.CDLL(None, use_errno=True)
_log = structlog.get_logger()


def is_mounted(path: Path) -> bool:
    """Is a bpffs what one finds there?"""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.statfs(os.fsencode(path), buffer):
        return False
    return int.from_bytes(buffer.raw[:8], "little") == _MAGIC


def mount(path: Path) -> None:
    """Make sure that `path` is a bpffs of root's alone; CaptureError says what is in the way."""
    if is_mounted(path):
        _refuse_strangers(path)
        return
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        foreign = sorted(os.listdir(path))
    except OSError as error:
        raise CaptureError(
            f"{path} cannot be a directory for pins: {error.strerror}", mend=f"remove {path}"
        ) from error
    if foreign:
        raise CaptureError(
            f"{path} is not a bpffs and holds {foreign[0]}", mend=f"remove {path}, or empty it"
        )
    target = os.fsencode(path)
    if _libc.mount(b"bpf", target, b"bpf", _NOSUID_NODEV_NOEXEC, b"mode=0700"):
        why = os.strerror(ctypes.get_errno())
        raise CaptureError(f"cannot mount a bpffs at {path}: {why}", mend="run as root")
    _warn_if_private(path)


def _refuse_strangers(path: Path) -> None:
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise CaptureError(
            f"others may write to the bpffs at {path}", mend=f"umount {path}, and start again"
        )


def _warn_if_private(path: Path) -> None:
    """In a mount namespace of the daemon's own (a sandboxed unit) the pins end with it."""
    try:
        if os.readlink("/proc/1/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            return
        seen = is_mounted(Path("/proc/1/root") / path.relative_to("/"))
    except OSError:
        return  # a container that hides its init: nobody can say
    if not seen:
        _log.warning("pins.private", path=str(path), why="the host does not see this mount")


def unmount(path: Path) -> None:
    """Remove the bpffs with all that is pinned in it, and its directory."""
    if _libc.umount2(os.fsencode(path), _MNT_DETACH):
        code = ctypes.get_errno()
        if code != EINVAL:  # not mounted
            raise CaptureError(f"cannot unmount {path}: {os.strerror(code)}", mend=f"umount {path}")
    path.rmdir()
