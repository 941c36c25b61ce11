# SPDX-License-Identifier: Apache-2.0
"""The files of a session's cgroup by which it is stopped, and what they say; it decides nothing."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from monitor.procfs import acting, processes_in
from monitor.response.standing import Target

_GLIMPSE_S = 0.00002
_GLIMPSES_NS = 50_000
_NAP_S = 0.00005
_NAP_UNTIL_NS = 20_000_000
"""`cgroup.events` tells pollers at most every 10 ms (kernfs limits it), while a freeze takes 0.02 to
4 ms: so it is read in a loop first. The loop naps from the start, because a task that is to freeze
may need this very processor to get there: who acts wakes us where he runs, and we are the more
urgent. Only a slow freeze is waited for with poll."""


class CgroupFiles:
    """`cgroup.freeze` and `cgroup.events` of a session's cgroup, held open. ENODEV once it is removed.

    They close with the last who has this: a session can end while another thread still waits for it to
    stand still, and the numbers of its files may be another file's by the next look.
    """

    def __init__(self, target: Target) -> None:
        self.events_fd = self._opened(target, "cgroup.events", os.O_RDONLY)
        self._freeze_fd = self._opened(target, "cgroup.freeze", os.O_WRONLY)

    def _opened(self, target: Target, name: str, flags: int) -> int:
        file = _open(target, name, flags)
        weakref.finalize(self, os.close, file)
        return file

    def freeze(self, value: bytes) -> None:
        """`1` freezes everything in the cgroup and below it, `0` thaws."""
        os.pwrite(self._freeze_fd, value, 0)

    def events(self) -> str:
        """`populated` and `frozen`, a line each, as of now."""
        return os.pread(self.events_fd, 128, 0).decode()

    def wait(self, wanted: str, goes_on: Callable[[int], bool]) -> bool:
        """Until `wanted` is among the events; False once `goes_on` says no to the ns that passed."""
        if wanted in self.events():
            return True
        start_ns = time.monotonic_ns()
        poll = select.poll()
        poll.register(self.events_fd, select.POLLPRI | select.POLLERR)
        while wanted not in self.events():
            passed = time.monotonic_ns() - start_ns
            if not goes_on(passed):
                return False
            if passed > _NAP_UNTIL_NS:
                poll.poll(10)
            else:
                time.sleep(_NAP_S if passed > _GLIMPSES_NS else _GLIMPSE_S)
        return True


def _open(target: Target, name: str, flags: int) -> int:
    """A file of its own cgroup; ENODEV where another one has taken that one's place."""
    directory = os.open(target.cgroup, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.fstat(directory).st_ino != target.cgroup_id:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), str(target.cgroup))
        return os.open(name, flags | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)


def is_there(target: Target) -> bool:
    """Is its own cgroup still at its path?"""
    try:
        return target.cgroup.stat().st_ino == target.cgroup_id
    except OSError:
        return False


def make_anew(target: Target) -> bool:
    """A new cgroup for one whose own is gone; True if its place was taken, and it is beside it. OSError."""
    try:
        target.cgroup.mkdir(parents=True)
        taken = False
    except FileExistsError:  # somebody else's, whom a stop must not meet
        target.cgroup = target.cgroup.with_name(f"{target.cgroup.name}-{target.id}")
        target.cgroup.mkdir()
        taken = True
    target.cgroup_id = target.cgroup.stat().st_ino
    return taken


def events_of(target: Target) -> str:
    """The same of a cgroup whose files are not open; nobody is in one that was removed."""
    try:
        with open(_open(target, "cgroup.events", os.O_RDONLY)) as file:
            return file.read()
    except OSError:
        return "populated 0\nfrozen 0\n"


def cgroup_line(file: int) -> str:
    """The cgroup2 path of a process, from the root of the hierarchy; `file` is its /proc/PID/cgroup."""
    text = os.pread(file, 65536, 0).decode("utf-8", "surrogateescape")
    # On hybrid hosts version 1 hierarchies have lines of their own, which start with another number.
    at = 0 if text.startswith("0::") else text.find("\n0::") + 1
    return text[at + 3 :].partition("\n")[0] if text.startswith("0::", at) else "/"


def kill_all(target: Target) -> None:
    """Everything in its cgroup and below that ends, in its own time; OSError."""
    write_to(target, "cgroup.kill", b"1")
    # That signals main threads (measured on Linux 6.18), and one that has ended hands it on to nobody:
    # the other threads of its process would live.
    outlived = [pid for pid in processes_in(target.cgroup) if _kill_outlived(pid)]
    if outlived:
        write_to(target, "cgroup.kill", b"1")  # what it started meanwhile, where it was not frozen


def _kill_outlived(pid: int) -> bool:
    """A process whose main thread has ended; True if it was one."""
    if acting(pid) == pid:
        return False
    with suppress(OSError):  # it ended
        process = os.pidfd_open(pid)
        try:
            if acting(pid) != pid:  # still: the number is no other's
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)
    return True


def write_to(target: Target, name: str, value: bytes) -> None:
    """To one file of its cgroup; OSError, ENODEV if that is gone."""
    file = _open(target, name, os.O_WRONLY)
    try:
        os.write(file, value)
    finally:
        os.close(file)
