# SPDX-License-Identifier: Apache-2.0
"""The lowered signatures, written into the kernel's maps; what they mean there is bpf/weigh.h's.

A watch on a path is written under every key by which the kernel may meet the file: the path's names,
the inode it leads to, its name in its directory, and the last parts of what a caller may write.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Protocol

from monitor.errors import RuleError
from monitor.looking import Look, UnansweredError, at_once
from monitor.lowered import (
    MOST_ROWS,
    NAME_BYTES,
    NAMES_BYTES,
    PARENT_BYTES,
    PARENTS,
    REPLACED,
    Act,
    Lowered,
    Watch,
    WatchIndex,
    Where,
    above,
)
from monitor.response.devices import unknown_to_the_kernel
from monitor.response.holds import Row, Tables
from monitor.response.networks import network_rows
from monitor.response.room import Found, Inode, fitting, too_many

_MINOR_BITS = 20  # of the kernel's dev_t
_UNRECOGNISED = -1
"""The group of those who are exempt and whom the kernel cannot tell from others."""

Rows = dict[Row, Row]


class Judge(Tables, Protocol):
    """The part of `capture.kernel.Kernel` that is told what to look for."""

    def judge_by(
        self, *, below: bool, operations: Iterable[str], taint_connects: bool = False
    ) -> None:
        """What the programs need to know beside the maps; operations as rules name them."""
        ...


@dataclass
class _Half:
    """What a row says of the path itself, or of all below it, in the making."""

    hold: Act = Act.NOTHING
    certain: dict[int, Act] = field(default_factory=dict)
    """Group -> what is certain for who is not of it."""

    def add(self, hold: Act, certain: Act, group: int) -> None:
        self.hold |= hold
        self.certain[group] = self.certain.get(group, Act.NOTHING) | certain

    def take_in(self, shorter: _Half) -> None:
        self.hold |= shorter.hold
        for group, certain in shorter.certain.items():
            self.add(Act.NOTHING, certain, group)

    def spoken(self) -> tuple[int, int, int]:
        """What is held, what is certain, and the group of whom it forgives."""
        # Where rules that forgive different programs meet, or programs that the kernel does not know,
        # nobody is exempt, and certain is only what is forgiven nobody (`merge.shared` tells so).
        group = next(iter(self.certain)) if len(self.certain) == 1 else 0
        group = 0 if group == _UNRECOGNISED else group
        return int(self.hold), int(self.certain.get(group, Act.NOTHING)), group


@dataclass
class _Acts:
    """The value of a watch in the making."""

    itself: _Half = field(default_factory=_Half)
    below: _Half = field(default_factory=_Half)

    @property
    def hold(self) -> Act:
        return self.itself.hold | self.below.hold

    def add(self, watch: Watch, group: int) -> None:
        half = self.below if watch.where is Where.BELOW else self.itself
        half.add(watch.hold, watch.certain, group)

    def take_in(self, shorter: _Acts) -> None:
        """The kernel finds the longest key only, so that one has to speak for the shorter ones."""
        self.itself.take_in(shorter.itself)
        self.below.take_in(shorter.below)

    def row(self) -> Row:
        """`struct estop_watch`."""
        hold, certain, exempt = self.itself.spoken()
        hold_below, certain_below, exempt_below = self.below.spoken()
        return hold, certain, hold_below, certain_below, exempt, exempt_below


class Verdicts:
    """Keeps the maps in step with the rules and with the file system. Thread-safe."""

    def __init__(self, kernel: Judge, own: Sequence[Watch] = (), *, look: Look = at_once) -> None:
        """`own` is watched whatever the rules are: see `protection.py`."""
        self._kernel = kernel
        self._look = look
        self._own = tuple(own)
        self._lock = threading.Lock()
        self._lowered = Lowered()
        self._watches = WatchIndex()
        self._groups: dict[frozenset[str], int] = {}
        self._found: Found | None = None
        """None until somebody looked: till then what an earlier monitor found stays."""
        self._left_out: Mapping[int, int] = {}
        self._written: dict[str, Rows] = {}
        self._by_path: dict[str, _Acts] = {}
        self._programs: Rows = {}
        """Who is exempt; this and the next as they were found last."""
        self._spots: Mapping[str, Row | None] = {}
        """Path -> its name in its directory."""

    def replace(self, lowered: Lowered) -> None:
        """Judge by these watches from now on, also what was found of the paths that they name.

        RuleError, and all is as it was, where they are more than the kernel's maps hold.
        """
        with self._lock:
            before = self._lowered, self._groups
            lowered = replace(lowered, watches=(*lowered.watches, *self._own))
            self._lowered = lowered
            self._groups = {watch.exempt: _group(watch.exempt) for watch in lowered.watches}
            for programs in filter(unknown_to_the_kernel, self._groups):
                self._groups[programs] = _UNRECOGNISED
            exempt = self._exempt()
            rows = {
                "watched_paths": self._paths(),
                "watched_leaves": self._leaves(),
                "watched_networks": network_rows(lowered.networks),
            }
            counts = {name: len(written) for name, written in rows.items()}
            counts["exempt_programs"] = sum(map(len, self._groups))  # there or not yet
            if problems := too_many(counts):
                self._lowered, self._groups = before
                raise RuleError(problems)
            self._watches = WatchIndex(lowered.watches)
            self._by_path.clear()
            # Whom a row forgives is there before the row and as long as it: nobody who is exempt
            # both before and after is refused in between.
            self._write("exempt_programs", self._there("exempt_programs") | exempt)
            for name, written in rows.items():
                self._write(name, written)
            if self._found is not None:
                self._write_found(self._found)
            self._write("exempt_programs", exempt)
            self._kernel.judge_by(
                below=any(w.where is Where.BELOW for w in lowered.watches),
                operations=lowered.operations,
                taint_connects=bool(lowered.taint_connects),
            )

    def follow(
        self,
        found: Mapping[str, Iterable[Inode]],
        of_sessions: Mapping[int, Sequence[tuple[str, Inode]]] | None = None,
    ) -> None:
        """Watch these inodes: path -> (device, inode) wherever it leads below the host's own root.

        And below those of sessions: slot -> path and (device, inode), of its oldest root at first.
        Devices as in `os.stat`. A path need not exist for its name in its directory to be watched.
        """
        with self._lock:
            self._found = Found(found, of_sessions or {})
            self._write_found(self._found)

    def left_out(self) -> Mapping[int, int]:
        """Slot -> files below its roots that are known by path only, for want of room; 0: the host's."""
        return self._left_out

    def _write_found(self, found: Found) -> None:
        # Only what is held: the kernel would find nothing in the other rows.
        files, left_out = fitting(found, lambda path: self._acts_on(path).hold)
        inodes: dict[Row, _Acts] = {}
        names: dict[Row, _Acts] = {}
        for (device, inode), paths in files.items():
            acts = inodes.setdefault((inode, kernel_device(device), 0), _Acts())
            for path in paths:
                acts.take_in(self._acts_on(path))
        held = [path for path in found.on_host if self._acts_on(path).hold]
        # Where somebody serves what lies above one, it stays what it was.
        with suppress(UnansweredError):
            self._spots = self._look(lambda: {path: _name_key(path) for path in held}, "spots")
        for path in held:
            acts, name = self._acts_on(path), self._spots.get(path)
            if name is not None and (name in names or len(names) < MOST_ROWS):
                names.setdefault(name, _Acts()).take_in(acts)
            elif name is not None:
                left_out[0] += 1
        self._write("watched_inodes", {key: acts.row() for key, acts in inodes.items()})
        self._write("watched_names", {key: acts.row() for key, acts in names.items()})
        self._left_out = left_out

    def _acts_on(self, path: str) -> _Acts:
        """What is watched of one path, by all watches that it matches."""
        acts = self._by_path.get(path)
        if acts is None:
            acts = self._by_path[path] = _Acts()
            for watch in self._watches.of(path):
                acts.add(watch, self._groups[watch.exempt])
        return acts

    def refresh(self) -> None:
        """Exempt programs may have been replaced by an upgrade."""
        with self._lock:
            self._write("exempt_programs", self._exempt())

    def _there(self, name: str) -> Rows:
        """The rows of a map; `()` for those that an earlier monitor left."""
        if name not in self._written:
            self._written[name] = dict.fromkeys(self._kernel.map(name).keys(), ())
        return self._written[name]

    def _write(self, name: str, rows: Rows) -> None:
        """New rows first: between the two steps too much is watched, never too little."""
        table, before = self._kernel.map(name), self._there(name)
        gone = before.keys() - rows.keys()
        full = len(gone) > MOST_ROWS  # as an earlier monitor may have left it: no room for both
        for key in gone if full else ():
            table.delete(*key)
        for key, value in rows.items():
            if before.get(key) != value:
                table.set(key, value)
        for key in () if full else gone:
            table.delete(*key)
        self._written[name] = rows

    def _exempt(self) -> Rows:
        groups = dict(self._groups)
        with suppress(UnansweredError):
            self._programs = self._look(lambda: _rows_of_programs(groups), "programs")
        return self._programs

    def _paths(self) -> Rows:
        acts: dict[bytes, _Acts] = {}
        ending = set()
        for watch in self._lowered.watches:
            names = names_of(watch.path, whole=watch.where is not Where.ENDING)
            if len(names) >= NAMES_BYTES:
                continue  # found by inode and by name, or by user space
            acts.setdefault(names, _Acts()).add(watch, self._groups[watch.exempt])
            if watch.where is Where.ENDING:
                ending.add(names)
            for directory in above(watch):
                acts.setdefault(names_of(directory.path, whole=True), _Acts()).add(directory, 0)
        for socket in self._lowered.sockets:
            certain = Act.CONNECT if socket.certain else Act.NOTHING
            watch = Watch(socket.where, socket.path, Act.CONNECT, certain)
            names = names_of(watch.path, whole=watch.where is not Where.ENDING)
            acts.setdefault(names, _Acts()).add(watch, 0)
        for names, own in sorted(acts.items(), key=lambda pair: len(pair[0])):
            for length in range(1, len(names)):
                if names[:length] in ending:
                    own.take_in(acts[names[:length]])
        return {
            (len(names) * 8, names.ljust(NAMES_BYTES, b"\0")): own.row()
            for names, own in acts.items()
        }

    def _leaves(self) -> Rows:
        leaves: dict[bytes, _Leaf] = {}

        def leaf(name: bytes) -> _Leaf:
            return leaves.setdefault(name, _Leaf())

        for watch in self._lowered.watches:
            parts = os.fsencode(watch.path).strip(b"/").split(b"/")
            if watch.where is Where.BELOW:
                leaf(parts[-1]).hold_below |= watch.hold
            else:
                leaf(parts[-1]).add(watch.hold, parts[:-1], rooted=watch.where is Where.EXACT)
            for depth in range(1, len(parts)):
                leaf(parts[depth - 1]).add(
                    REPLACED, parts[: depth - 1], rooted=watch.where is not Where.ENDING
                )
        for socket in self._lowered.sockets:
            parts = os.fsencode(socket.path).strip(b"/").split(b"/")
            leaf(parts[-1]).add(Act.CONNECT, parts[:-1], rooted=socket.where is Where.EXACT)
        return {
            (_padded(name),): found.row()
            for name, found in leaves.items()
            if len(name) < NAME_BYTES
        }


@dataclass
class _Leaf:
    """What may be done to a name, under which names above it."""

    hold: Act = Act.NOTHING
    hold_below: Act = Act.NOTHING
    parents: set[bytes] = field(default_factory=set)
    any_parent: bool = False

    def add(self, acts: Act, above: list[bytes], *, rooted: bool) -> None:
        self.hold |= acts
        # A whole path is reached through links whose last name is any, and a name of `/etc` is rare.
        if rooted or not above or len(above[-1]) >= PARENT_BYTES:
            self.any_parent = True
        else:
            self.parents.add(above[-1])

    def row(self) -> Row:
        """`struct estop_leaf`."""
        parents = sorted(self.parents)
        anywhere = self.any_parent or len(parents) > PARENTS
        padded = ([] if anywhere else parents) + [b""] * PARENTS
        return (int(self.hold), int(self.hold_below), int(anywhere), 0, *padded[:PARENTS])


def names_of(path: str, *, whole: bool) -> bytes:
    r"""A path as `struct estop_names_key` has it: `/etc/hosts` is `hosts\0etc\0\0`."""
    parts = os.fsencode(path).strip(b"/").split(b"/")
    return b"".join(part + b"\0" for part in reversed(parts)) + (b"\0" if whole else b"")


def kernel_device(device: int) -> int:
    """`st_dev` as the kernel's dev_t has it.

    Of no use on btrfs, and for files on an overlay over two filesystems: their `st_dev` is no device
    of the kernel's. They are known by path, and on the overlay by name in their directory.
    """
    return os.major(device) << _MINOR_BITS | os.minor(device)


def _rows_of_programs(groups: Mapping[frozenset[str], int]) -> Rows:
    rows: Rows = {}
    for programs, group in groups.items():
        for program in programs if group != _UNRECOGNISED else ():
            if os.path.realpath(program) != program:
                continue  # what a link leads to runs under its own name, which no rule forgives
            try:
                found = os.stat(program)
            except OSError:
                continue  # nobody runs what is not there
            image = found.st_ino ^ (kernel_device(found.st_dev) << 40) & (2**64 - 1)
            rows[image, group, 0] = (1,)
    return rows


def _group(programs: frozenset[str]) -> int:
    """The number of those who are forgiven the same; 0 is nobody.

    It is made of their paths, so that a row which is still of the rules before, or of an earlier
    monitor, never forgives others: of a thousand groups two meet once in ten thousand rule sets.
    """
    if not programs:
        return 0
    paths = b"\0".join(sorted(map(os.fsencode, programs)))
    return int.from_bytes(blake2b(paths, digest_size=4).digest(), "little") or 1


def _padded(name: bytes) -> bytes:
    return name.ljust(NAME_BYTES, b"\0")


def _name_key(path: str) -> Row | None:
    directory, _, leaf = path.rpartition("/")
    name = os.fsencode(leaf)
    try:
        found = os.stat(directory or "/")
    except OSError:
        return None
    if len(name) >= NAME_BYTES:
        return None
    return (found.st_ino, kernel_device(found.st_dev), 0, _padded(name))
