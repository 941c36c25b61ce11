# SPDX-License-Identifier: Apache-2.0
"""File systems that programs serve (FUSE), as the kernel tells of them; nobody is asked for anything.

A name there is a question to its server, and whoever asks sleeps until that answers: once the server has
read the question, no signal ends that sleep. `looking.py` says how we live with that.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress

import structlog

from monitor.filecalls import RESOLVE_CACHED, call, openat2
from monitor.procfs import mounted_devices

_log = structlog.get_logger()

_WAIT_LOOKS, _WAIT_LOOK_S = 10, 0.01
"""Who is asked much has somebody waiting at any moment, but not at each."""

_NR_FSOPEN, _NR_FSCONFIG, _NR_FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_KERNEL_MINOR_BITS = 20
"""Of the kernel's own dev_t, by which fusectl names a connection."""
_LINK = re.compile(r"/proc/\w+/(root|fd/\d+)/+(?=.)", re.DOTALL)


class Served:
    """File systems that programs serve, in whatever mount namespace: fusectl has an entry for each.

    It is mounted for this process alone, without a place. Thread-safe.
    """

    def __init__(self) -> None:
        self._fd = _fusectl()
        self._strangers: frozenset[int] = frozenset()
        self._changed: tuple[int, int] = (-1, 0)
        self._known: frozenset[int] = frozenset()

    def by_sessions(self) -> bool:
        """May one of them be a session's? It is asked for each event: 1 us, unless they changed."""
        if self._fd < 0:
            return False
        found = os.fstat(self._fd)
        changed = found.st_nlink, found.st_mtime_ns
        if changed != self._changed:
            self._known = frozenset(self._entries())
            self._changed = changed
        return not self._known <= self._strangers

    def are_strangers(self) -> None:
        """No session lives: whoever serves by now is somebody whom nobody stops."""
        self._strangers = frozenset(self._entries())

    def are_met(self) -> None:
        """Somebody is watched from now on who ran before: any of them may be his."""
        self._strangers = frozenset()

    def devices(self) -> frozenset[int]:
        """`st_dev` of each."""
        return frozenset(map(_device, self._entries().values()))

    def end_waits(self, pids: Iterable[int] | None = None) -> bool:
        """Abort what somebody has been waiting for all this while: the mount stays, and every call fails.

        Only what one of these processes has mounted, if they are given. True if there was any.

        A thread whose question was read by its server sleeps on, SIGKILL or not, and its process with it.
        So does who waits for it to let go of a directory, and no cgroup with such a thread can be frozen.
        """
        strangers = self._strangers
        waited = [name for inode, name in self._entries().items() if inode not in strangers]
        if pids is not None:
            mounted = _mounted_by(pids) if waited else set()
            waited = [name for name in waited if _device(name) in mounted]
        for _ in range(_WAIT_LOOKS if waited else 0):
            waited = [name for name in waited if self._read(name, "waiting")]
            time.sleep(_WAIT_LOOK_S)
        for name in waited:
            _log.warning("served.aborted", connection=name, why="somebody waits for its server")
            with suppress(OSError):  # it was unmounted
                fd = os.open(f"{name}/abort", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._fd)
                os.write(fd, b"1")
                os.close(fd)
        return bool(waited)

    def _read(self, connection: str, what: str) -> int:
        try:
            fd = os.open(f"{connection}/{what}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError:
            return 0
        try:
            return int(os.read(fd, 32))
        finally:
            os.close(fd)

    def _entries(self) -> dict[int, str]:
        """Inode -> name: the number of a connection is given to the next one, its inode is not."""
        if self._fd < 0:
            return {}
        entries = {}
        for name in os.listdir(self._fd):  # noqa: PTH208 - a path has no descriptor
            with suppress(FileNotFoundError):
                entries[os.stat(name, dir_fd=self._fd).st_ino] = name
        return entries

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _device(connection: str) -> int:
    number = int(connection)
    return os.makedev(number >> _KERNEL_MINOR_BITS, number & (1 << _KERNEL_MINOR_BITS) - 1)


def _mounted_by(pids: Iterable[int]) -> set[int]:
    """Devices of all that these processes have mounted."""
    devices: set[int] = set()
    for pid in pids:
        with suppress(OSError):  # it ended
            devices |= mounted_devices(pid)
    return devices


def _fusectl() -> int:
    """A descriptor of its root; -1 where the kernel has no FUSE, which none can then serve."""
    try:
        context = call(_NR_FSOPEN, b"fusectl", _FSOPEN_CLOEXEC)
    except OSError:
        return -1
    try:
        call(_NR_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        mount = call(_NR_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
        try:
            # What fsmount gives is O_PATH, by which a directory cannot be listed.
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
        finally:
            os.close(mount)
    finally:
        os.close(context)


def open_at_hand(path: str) -> int:
    """An O_PATH descriptor, without asking anybody: BlockingIOError where the kernel does not know it.

    What somebody looked at a moment ago it knows. A path may begin with a root or a descriptor of a
    process, which are links that only a look of their own follows.
    """
    found = _LINK.match(path)
    start, rest = (found[0], path[found.end() :]) if found else ("/", path)
    directory = os.open(start, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return openat2(directory, os.fsencode(rest), os.O_PATH | os.O_CLOEXEC, RESOLVE_CACHED)
    finally:
        os.close(directory)
