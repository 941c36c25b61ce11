# SPDX-License-Identifier: Apache-2.0
"""Facts from the kernel, one immutable struct for each kind; no judgement, no look-ups.

Paths are text that encodes back to the kernel's bytes (`text.decode`). Times are CLOCK_BOOTTIME ns.
"""

from __future__ import annotations

import os
from enum import IntFlag
from typing import NamedTuple

import msgspec


class Path(msgspec.Struct, frozen=True, gc=False):
    """Where an object lies, from the kernel's own dentries.

    `text` leads through mounts from the root directory of the process; `within` leads from the root
    of the object's own filesystem, whatever is mounted where. `device` is as `os.stat().st_dev`.
    """

    text: str
    within: str
    device: int


class File(msgspec.Struct, frozen=True, gc=False):
    """An inode under one of its names. `links` is 0 where no name leads to it any more."""

    path: Path
    inode: int
    parent_inode: int
    mode: int
    links: int


class Name(msgspec.Struct, frozen=True, gc=False):
    """A file as a system call named it: `text` starts at `base`, or is absolute and has none.

    `text` was read from the caller's memory: it has to be resolved, and can lie.
    """

    base: Path | None
    text: str


class Access(IntFlag):
    """How a file was opened."""

    READ = 1
    WRITE = 2
    CREATED = 4


class Verdict(IntFlag):
    """What the kernel did at once, in the numbers of bpf/event.h."""

    PASS = 0
    CANDIDATE = 2
    """A rule that stops may match: the session's network is cut until it is answered."""
    CERTAIN = 4
    """The kernel's part of a rule is the whole of it."""
    STOPPED = 8
    """The process waits, stopped, on its way back to user space."""
    REFUSED = 16
    """The act did not happen."""
    BEFORE = 32
    """The act has not happened: it waits for the answer, and its call then starts anew."""

    @property
    def word(self) -> str:
        """`pass`, `hold` or `deny`."""
        if Verdict.REFUSED in self:
            return "deny"
        return "hold" if Verdict.CANDIDATE in self else "pass"


class View(NamedTuple):
    """From where a process sees the file system: paths of two views do not compare.

    `root` is a number for its root directory and the mount that it is on.
    """

    mnt_ns: int
    root: int


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What every event has. `slot` is the session's row in the kernel's maps.

    `egress_bytes` is what had left the session when the event happened. `cut` says that some text
    did not fit into the record. `verdict` is what the kernel did at once.
    """

    ktime_ns: int
    egress_bytes: int
    slot: int
    tgid: int
    tid: int
    uid: int
    view: View
    cut: bool
    verdict: Verdict = Verdict.PASS
    held_ns: int = 0
    """When the kernel held or refused; 0 where it did neither."""


class Forked(Event, frozen=True, kw_only=True, gc=False):
    """A process was born; its child is already followed by the kernel."""

    child: int
    child_started_ns: int


class Executed(Event, frozen=True, kw_only=True, gc=False):
    """A process runs another program.

    For a script that starts with `#!`, `image` is the interpreter and `script` the script as exec was
    asked for it; else `script` is empty.
    """

    image: File
    cwd: Path
    script: str
    argv: tuple[str, ...]
    argv_truncated: bool
    started_ns: int
    parent: int


class Exited(Event, frozen=True, kw_only=True, gc=False):
    """The last thread of a process ended; `code` as wait(2) has it."""

    code: int

    @property
    def exit_code(self) -> int:
        """As shells tell it: the status, or 128 + the signal that ended it."""
        status = os.waitstatus_to_exitcode(self.code & 0xFF7F)  # without the core dump bit
        return status if status >= 0 else 128 - status


class Opened(Event, frozen=True, kw_only=True, gc=False):
    """A file was opened. `repeats` earlier opens of the same kind were counted and not sent."""

    file: File
    access: Access
    repeats: int


class Renamed(Event, frozen=True, kw_only=True, gc=False):
    """A name was moved over `target`."""

    source: Name
    target: Name


class Linked(Event, frozen=True, kw_only=True, gc=False):
    """`target` is now one more name of `source`."""

    source: Name
    target: Name


class Symlinked(Event, frozen=True, kw_only=True, gc=False):
    """`target` is now a symbolic link that holds `text`."""

    text: str
    target: Name


class Unlinked(Event, frozen=True, kw_only=True, gc=False):
    """`target` was removed."""

    target: Name


class Truncated(Event, frozen=True, kw_only=True, gc=False):
    """`target` was cut or grown to `size` bytes."""

    target: Name
    size: int


class ModeChanged(Event, frozen=True, kw_only=True, gc=False):
    """`target` became executable or setuid: `mode` is its new mode."""

    target: Name
    mode: int


class Connected(Event, frozen=True, kw_only=True, gc=False):
    """A connection was asked for (or, with `datagram`, a packet sent without one).

    `to_monitor`: to the API of the monitor itself, and refused.
    """

    address: str
    port: int
    protocol: str
    cookie: int
    datagram: bool
    to_monitor: bool = False


class UnixConnected(Event, frozen=True, kw_only=True, gc=False):
    """A local socket was connected to. `listener` is the pid that listens, 0 where unknown."""

    name: str
    listener: int


class NameAsked(Event, frozen=True, kw_only=True, gc=False):
    """A DNS question left the session. `name` is lower case, without the final dot."""

    name: str
    address: str
    port: int
    protocol: str


class ServerNamed(Event, frozen=True, kw_only=True, gc=False):
    """A TLS ClientHello left the session, with this server name."""

    name: str
    address: str
    port: int


class CgroupMoved(Event, frozen=True, kw_only=True, gc=False):
    """A process was moved. `inside` is false when it left the session's cgroup."""

    target: int
    path: str
    inside: bool


class Privileged(Event, frozen=True, kw_only=True, gc=False):
    """A system call that reaches beyond the session; `operation` as in `fields.CATEGORIES`.

    `args` are the call's own, but of a `limit` the first is the task that it is about.
    """

    operation: str
    text: str
    args: tuple[int, ...]
    result: int


class Signalled(Event, frozen=True, kw_only=True, gc=False):
    """A process of the session sent the monitor a signal."""

    signal: int


KINDS: tuple[type[Event], ...] = tuple(Event.__subclasses__())
"""Every kind of event there is."""
