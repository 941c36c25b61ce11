# SPDX-License-Identifier: Apache-2.0
"""What a thread that sleeps in an open asked for: fanotify does not tell, its system call does.

/proc/TID/syscall (proc(5)) shows number and arguments of the call a thread sleeps in, from the
registers it entered the kernel with, so nobody can change the answer. openat2's flags are in the
asker's memory, where another thread could write another story after the kernel has read its own:
believed where they say more than read, and else the event of the open that follows tells. That memory
can make whoever reads it wait for ever: `peeker.py` does it.

Nothing is known, `UNTOLD`, where procfs does not tell us: under Yama's `kernel.yama.ptrace_scope=3`,
of a thread that did not fall asleep in time on a busy machine, or whose memory did not come at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from monitor.capture.syscalls import SHAPES
from monitor.events import Access
from monitor.procfs import status_of

ANYTHING = Access.READ | Access.WRITE
UNTOLD = Access(0)
"""The record of the open will say it, once it happened."""
_SETTLE_NS = 5_000_000
"""An event is queued just before its thread falls asleep; until then procfs says `running`."""
_NAP_S = 0.00002
_X32 = 0x4000_0000
_LINE_WORDS = 9  # number, six arguments, stack pointer, instruction pointer
_OPEN_FLAGS = {"open": 1, "openat": 2, "open_by_handle_at": 2}
"""Which argument has the O_ flags."""
_OPENAT2 = 437
_HOW = 2
"""Which argument of openat2 is the address of its `struct open_how`, which begins with the flags."""


def _numbers() -> tuple[dict[int, int], frozenset[int]]:
    """Number -> the argument that has the flags; and the numbers of creat.

    Both ABIs in one table: what /proc shows does not tell which entry was taken, but no number of
    an open on one entry is a call on the other that opens files.
    """
    flags, creat = {}, set()
    for shape in SHAPES:
        for number in (shape.number, shape.compat):
            if number is None:
                continue
            if shape.name in _OPEN_FLAGS:
                flags[number] = _OPEN_FLAGS[shape.name]
            elif shape.name == "creat":
                creat.add(number)
    return flags, frozenset(creat)


_FLAGS_AT, _CREAT = _numbers()
_EXECS = frozenset({59, 322, 11, 358})
"""execve and execveat of both entries: they read."""


Peek = Callable[[int, int], int | None]
"""Eight bytes of a thread's memory at an address, None where they are not to be had: `Peeker.number_at`."""


def untold(_tid: int, _address: int) -> None:
    """For who must not look into memory."""


def access_of(tid: int, peek: Peek) -> Access:
    """How the thread wants to open the file it waits for; 5 ms at most until it sleeps, 3 for `peek`."""
    deadline = time.monotonic_ns() + _SETTLE_NS
    while True:
        try:
            line = _read(f"/proc/{tid}/syscall")
        except OSError:
            return UNTOLD  # it was killed, or we may not look
        if not line.startswith("running"):
            return parse(line, tid, peek)
        if time.monotonic_ns() > deadline:
            return UNTOLD
        time.sleep(_NAP_S)


def parse(line: str, tid: int, peek: Peek) -> Access:
    """One line of /proc/TID/syscall; the thread's memory is looked at where only that tells."""
    words = line.split()
    if len(words) != _LINE_WORDS:
        return ANYTHING  # `-1 SP PC`: asleep, but not in a system call
    # A worker of io_uring has the registers its maker had in some other call, but neither stack nor
    # instruction pointer: only these tell that the call is not its own.
    if int(words[8], 16) == 0:
        return ANYTHING
    number = int(words[0]) & ~_X32
    if number in _FLAGS_AT:
        return _wanted(int(words[1 + _FLAGS_AT[number]], 16))
    if number == _OPENAT2:
        flags = peek(tid, int(words[1 + _HOW], 16))
        return UNTOLD if flags is None else _wanted(flags)
    if number in _EXECS:
        return Access.READ
    return Access.WRITE if number in _CREAT else ANYTHING


def _wanted(flags: int) -> Access:
    """O_TRUNC destroys whatever the mode says. Mode 3 (for ioctl only) asks for both permissions."""
    mode = flags & os.O_ACCMODE
    if mode == os.O_RDONLY:
        return ANYTHING if flags & os.O_TRUNC else Access.READ
    return Access.WRITE if mode == os.O_WRONLY else ANYTHING


def leader_of(tid: int) -> int:
    """The process a thread belongs to, 0 if it is gone."""
    with suppress(OSError):
        # Only the first thread of a process has one: so most of the time no text has to be read.
        os.close(os.pidfd_open(tid))
        return tid
    return int(status_of(tid).get("Tgid", 0))


def _read(path: str) -> str:
    """A file of procfs, with a third of the calls that pathlib makes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode("ascii", "replace")
    finally:
        os.close(fd)
