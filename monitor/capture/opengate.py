# SPDX-License-Identifier: Apache-2.0
"""The gate in front of watched files: which inodes are asked about, and what is asked.

An inode keeps its mark under every name, through every mount and by handle. A file that replaces it
has another inode and no mark, until `add_marks` or `mark` is called again; a mark on the directory
closes that gap, for names that are opened through the directory. It decides nothing.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress

from monitor.capture import fanotify
from monitor.capture.fanotify import Mask
from monitor.capture.gatewords import Asked
from monitor.errors import CaptureError
from monitor.filecalls import status_at_hand
from monitor.served import Served, open_at_hand

Inode = tuple[int, int]
"""(device, inode) as `os.stat` has them."""

_FILE = Mask.OPEN_PERM | Mask.OPEN_EXEC_PERM
_DIRECTORY = _FILE | Mask.EVENT_ON_CHILD
_LOOK = os.O_PATH | os.O_CLOEXEC


class OpenGate:
    """One fanotify group.

    When it is closed, or its process dies however it dies, the kernel lets everybody pass who waits
    and removes the marks: what the BPF programs do then has to hold by itself.
    """

    def __init__(self) -> None:
        try:
            self.fd = fanotify.open_group()
        except OSError as error:
            raise CaptureError(
                f"fanotify gives no permission events: {error.strerror}",
                mend="boot a kernel with CONFIG_FANOTIFY_ACCESS_PERMISSIONS=y, run as root",
            ) from error
        self._marks: dict[Inode, tuple[str, Mask]] = {}
        self._served = Served()
        self._held_elsewhere: frozenset[int] = frozenset()
        """Devices whose files are opened by asking a program."""

    # Marks --------------------------------------------------------------------------------------

    def add_marks(
        self, files: Mapping[Inode, str], directories: Mapping[Inode, str]
    ) -> dict[str, str]:
        """Ask about these; path -> why it is not asked about, for those that are not.

        Paths are ways by which we reach them. In a directory everything that is not one itself is
        asked about when it is opened by its name there, also what is made later.
        All are marked anew each time: a file system gives the number of a removed inode to the next
        one at once, so an inode that we know may be another that has no mark.
        """
        wanted = [(i, path, _FILE) for i, path in files.items()]
        wanted += [(i, path, _DIRECTORY) for i, path in directories.items()]
        if wanted:
            self._held_elsewhere = self._served.devices()
        refused = {}
        for inode, path, mask in wanted:
            reason = self._add(inode, path, mask)
            if reason:
                refused[path] = reason
        return refused

    def keep_marks(self, inodes: AbstractSet[Inode]) -> None:
        """Ask about no others."""
        self._held_elsewhere = self._served.devices()
        if not inodes:
            fanotify.remove_all_marks(self.fd)
            self._marks.clear()
        for inode in self._marks.keys() - inodes:
            self._remove(inode)

    def mark(self, path: str) -> str:
        """Ask about what lies there now, for a name that just came; the reason if we do not, or ""."""
        self._held_elsewhere = self._served.devices()
        try:
            fd = self._open(path)
            try:
                found = status_at_hand(fd)
            finally:
                os.close(fd)
        except FileNotFoundError:
            return ""
        except OSError as error:
            return _why(error)
        return self._add((found.device, found.inode), path, _FILE)

    def _add(self, inode: Inode, path: str, mask: Mask) -> str:
        def add(reachable: str, mode: int) -> str:
            kind = stat.S_ISDIR if mask is _DIRECTORY else stat.S_ISREG
            if not kind(mode):
                # To tell us of its open the kernel opens it: a device may act, a fifo may wait.
                return "not a directory" if mask is _DIRECTORY else "not a regular file"
            fanotify.add_mark(self.fd, reachable, mask)
            self._marks[inode] = (path, mask)
            return ""

        if inode[0] in self._held_elsewhere:
            return "on FUSE: the program that serves it could hold the monitor"
        try:
            return self._with_inode(inode, path, add)
        except FileNotFoundError:
            return ""  # removed since: nothing to ask about
        except OSError as error:
            return _why(error)

    def _remove(self, inode: Inode) -> None:
        path, mask = self._marks.pop(inode)

        def remove(reachable: str, _mode: int) -> str:
            fanotify.remove_mark(self.fd, reachable, mask)
            return ""

        # A removed inode took its mark along. One that was moved away keeps it until the last
        # session ends: it still has what was watched, and costs a question that is answered.
        with suppress(OSError):
            self._with_inode(inode, path, remove)

    def _with_inode(self, inode: Inode, path: str, act: Callable[[str, int], str]) -> str:
        """Do something to an inode by a path that cannot lead to another one while it is done."""
        fd = self._open(path)
        try:
            found = status_at_hand(fd)
            if (found.device, found.inode) != inode:
                raise FileNotFoundError(path)  # replaced since; the caller will hear of the new one
            return act(f"/proc/self/fd/{fd}", found.mode)
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        """Without asking a program for a name, where there is one that might be asked.

        Whoever wants the mark looked there a moment ago, so the kernel knows what others serve by now.
        """
        return open_at_hand(path) if self._held_elsewhere else os.open(path, _LOOK)

    def __len__(self) -> int:
        return len(self._marks)

    # Questions ----------------------------------------------------------------------------------

    def question(self, record: fanotify.Record, number: int, slot: int, pid: int) -> Asked:
        """What there is to know of an event while its descriptor is open."""
        ktime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        found = os.fstat(record.fd)
        return Asked(
            number=number,
            ktime_ns=ktime_ns,
            slot=slot,
            pid=pid,
            tid=record.tid,
            execute=bool(record.mask & Mask.OPEN_EXEC_PERM),
            device=found.st_dev,
            inode=found.st_ino,
            mode=found.st_mode,
            links=found.st_nlink,
            path=os.fsencode(os.readlink(f"/proc/self/fd/{record.fd}")),
            mount=_mount_of(record.fd),
        )

    def answer(self, fd: int, *, allow: bool) -> None:
        """Let the open go on, or fail with EPERM; closes the descriptor. Once for each event."""
        fanotify.respond(self.fd, fd, allow=allow)

    def close(self) -> None:
        """Let everybody pass who waits, and remove the marks."""
        os.close(self.fd)
        self._served.close()


def _why(error: OSError) -> str:
    if isinstance(error, BlockingIOError):
        return "to be looked up, where a program that serves files could hold the monitor"
    return error.strerror or "unreachable"


def _mount_of(fd: int) -> int:
    """`mnt_id` of /proc/self/fdinfo, see proc(5); 0 if it is not there."""
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        rows = os.read(info, 1024).splitlines()
    finally:
        os.close(info)
    return next((int(row[7:]) for row in rows if row.startswith(b"mnt_id:")), 0)
