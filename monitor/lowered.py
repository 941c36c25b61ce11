# SPDX-License-Identifier: Apache-2.0
"""What the kernel is told of the signatures that stop or refuse: data only.

`lower.py` fills these, `response/` writes them into maps, `enforcement.py` says what they are worth
on a host. Paths are the kernel's: absolute, as bytes, with regard to case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntFlag, StrEnum

NAMES_BYTES = 256
"""The longest path the kernel compares, in the form of `struct estop_names_key`."""
NAME_BYTES = 64
PARENT_BYTES = 32
PARENTS = 4
PORTS = 29
MAX_WATCHES = 16384
"""Sizes of bpf/maps.h."""
MOST_ROWS = MAX_WATCHES // 2
"""Of one map: while rules are exchanged, the rows before and the ones after are there both."""

KERNELS_OWN = ("/dev/", "/proc/", "/sys/")
"""Nobody is asked before an open here: to ask, the kernel opens the file for us, and that may be an act."""


class Act(IntFlag):
    """What is done to a file. The numbers are those of `enum estop_act` in bpf/event.h."""

    NOTHING = 0
    READ = 1
    """Opened to be read."""
    WRITE = 2
    """Opened to be written."""
    CREATE = 4
    """Came to be because it was opened."""
    TRUNCATE = 8
    """Cut or grown by truncate(2)."""
    LINK_TO = 16
    """Came to be as one more name of another file."""
    LINK_FROM = 32
    """Got one more name."""
    SYMLINK = 64
    """Came to be as a symbolic link."""
    CHMOD = 128
    RENAME_TO = 256
    """Something was renamed to it."""
    RENAME_FROM = 512
    """It was renamed to something else."""
    DELETE = 1024
    EXEC = 2048
    MOUNT = 4096
    """Something was mounted over it. No signature names this: the kernel side adds it."""
    CONNECT = 8192
    """Connected to, where it is a local socket. Signatures name these by `SocketWatch`."""


class Where(StrEnum):
    """Which paths a watch means, by its own `path`."""

    EXACT = "exact"
    """This one."""
    BELOW = "below"
    """Those that start with it. It is a directory and ends in `/`."""
    ENDING = "ending"
    """Those that end with it. It is whole components and starts with `/`."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Paths on which some acts are no ordinary ones. Each watch is judged for itself."""

    where: Where
    path: str
    hold: Act
    """Acts for which this is a necessary part of some signature: hold, and let Python judge."""
    certain: Act
    """Those of `hold` for which it is all that a signature asks: the kernel may refuse by itself."""
    exempt: frozenset[str] = frozenset()
    """Programs, by their whole path, for which no act here is anything to any of the rules."""
    rules: frozenset[str] = frozenset()


class WatchIndex:
    """Finds the watches that mean a path, however many there are."""

    def __init__(self, watches: Iterable[Watch] = ()) -> None:
        self._found: defaultdict[tuple[Where, str], list[Watch]] = defaultdict(list)
        for watch in watches:
            self._found[watch.where, watch.path].append(watch)

    def of(self, path: str) -> Iterator[Watch]:
        """Every one of them."""
        yield from self._found.get((Where.EXACT, path), ())
        for at, letter in enumerate(path):
            if letter == "/":
                yield from self._found.get((Where.BELOW, path[: at + 1]), ())
                yield from self._found.get((Where.ENDING, path[at:]), ())


REPLACED = Act.RENAME_FROM | Act.RENAME_TO
"""A directory above a watched path: who renames it, replaces the file."""
_REPLACING = Act.WRITE | Act.CREATE | Act.RENAME_TO
"""A rule about one of these means that the path shall keep its content."""


def above(watch: Watch) -> Iterator[Watch]:
    """The directories that lead to a file which nobody may replace, and what would replace it.

    Nobody is forgiven: a rule forgives a program the file, not what else is in the directory.
    """
    if watch.where is Where.ENDING or not watch.certain & (_REPLACING | Act.MOUNT):
        return
    acts = REPLACED if watch.certain & _REPLACING else Act.NOTHING
    acts |= watch.certain & Act.MOUNT
    path = watch.path.rpartition("/")[0]
    while path:
        yield Watch(Where.EXACT, path, acts, acts, rules=watch.rules)
        path = path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class NetworkWatch:
    """Addresses that must not be contacted.

    An IPv4 address inside an IPv6 one (`::ffff:0:0/96`) is meant by IPv4 networks, and by no other.
    """

    network: str
    """A CIDR block, v4 or v6."""
    ports: tuple[int, ...]
    """None means any."""
    certain: bool
    rules: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SocketWatch:
    """Local sockets, by the name they are bound to; `where` is `EXACT` or `ENDING`."""

    where: Where
    path: str
    certain: bool
    rules: frozenset[str] = frozenset()


class Part(StrEnum):
    """How much of a signature the kernel can judge."""

    WHOLE = "whole"
    """All of it: whatever a watch finds is a match."""
    PART = "part"
    """A necessary part: no match without a watch that finds it, but not every find is a match."""
    SOME = "some"
    """Some kinds of match touch a watch, and others touch none."""
    NONE = "none"
    """No match touches a watch, or none that could be held."""


@dataclass(frozen=True, slots=True)
class RuleLowering:
    """One signature as the kernel knows it, before it is merged with the others."""

    part: Part
    reason: str
    """Why it is not more, for people."""
    watches: tuple[Watch, ...] = ()
    networks: tuple[NetworkWatch, ...] = ()
    operations: tuple[str, ...] = ()
    sockets: tuple[SocketWatch, ...] = ()
    taint_connects: bool = False
    """Whatever a session contacts once something in it has touched a secret."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """All signatures together. No two `watches` have the same `where` and `path`."""

    watches: tuple[Watch, ...] = ()
    networks: tuple[NetworkWatch, ...] = ()
    operations: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Names as rules know them (`fields.CATEGORIES`) -> rules: all are held, none is certain."""
    sockets: tuple[SocketWatch, ...] = ()
    taint_connects: frozenset[str] = frozenset()
    """Rules to which any contact of a tainted session may be a match: all are held."""
    rules: Mapping[str, RuleLowering] = field(default_factory=dict)
    """Rule id -> what became of it. Rules that only log or alert are left out."""
