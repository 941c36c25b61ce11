# SPDX-License-Identifier: Apache-2.0
"""What the monitor and the gatekeeper's process say to each other, one message a packet; no policy.

Paths are bytes as the kernel has them. The monitor's orders are numbered by their order alone: how
many the gatekeeper has carried out stands on the page that both map.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import astuple, dataclass

import msgspec

PACKET_BYTES = 1 << 18
"""More than any message has: `MARKS` paths of the longest kind."""
MARKS = 32
"""Marks in one message. Between two messages those are answered who have come meanwhile."""


class Wanted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An inode to ask about. `path` leads to it from the gatekeeper's own view."""

    device: int
    inode: int
    path: bytes
    directory: bool = False


class Marks(msgspec.Struct, frozen=True, tag="marks"):
    """Ask about these; with `last`, about these and those of the messages before and nothing else."""

    wanted: list[Wanted]
    last: bool


class MarkNow(msgspec.Struct, frozen=True, tag="mark"):
    """Ask about the file that lies there now."""

    path: bytes


class Answer(msgspec.Struct, frozen=True, tag="answer", gc=False):
    """The monitor's word to a question."""

    number: int
    allow: bool


class Refuse(msgspec.Struct, frozen=True, tag="refuse", gc=False):
    """Refuse whatever the session asks and has asked; or no more."""

    slot: int
    on: bool


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The first word of the gatekeeper; with an error it is also the last."""

    error: str = ""
    mend: str = ""


class Asked(msgspec.Struct, frozen=True, tag="asked", gc=False):
    """A thread of a session waits: what there is to know of the file, see `question.Question`."""

    number: int
    ktime_ns: int
    slot: int
    pid: int
    tid: int
    execute: bool
    device: int
    inode: int
    mode: int
    links: int
    path: bytes
    mount: int


class Unmarked(msgspec.Struct, frozen=True, tag="unmarked"):
    """A path that is not asked about, and why."""

    path: bytes
    reason: str


Order = Marks | MarkNow | Answer | Refuse
News = Ready | Asked | Unmarked


@dataclass
class Tally:
    """What became of the questions since the gatekeeper started."""

    strangers: int = 0
    """Of processes in no session: let pass at once."""
    asked: int = 0
    """Of sessions: handed on."""
    refused: int = 0
    """Of sessions that are being stopped, or stand still."""
    late: int = 0
    """Handed on, and not answered in time."""
    crowded: int = 0
    """Not handed on, because too many waited already."""
    failed: int = 0
    """Could not be looked at; answered by the fail mode."""
    unread: int = 0
    """Refused by the kernel, which could not open the file for us (a lease, no descriptors left), or
    withdrawn because the asker was killed in between."""
    lost: int = 0
    """Overflows of the kernel's queue: it let pass what it could not ask about."""
    marks: int = 0
    """Inodes that are asked about now."""
    orders: int = 0
    """Orders carried out."""


class Page:
    """The gatekeeper's tally and its sign of life, in memory that both have.

    In memory, so that the monitor learns of a gatekeeper that hangs, and from any thread.
    """

    _ROW = struct.Struct("=Q" + "Q" * len(astuple(Tally())))

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, mmap.PAGESIZE)

    def write(self, alive_ns: int, tally: Tally) -> None:
        """`alive_ns` is of CLOCK_MONOTONIC, which stands still while the machine sleeps."""
        self._ROW.pack_into(self._memory, 0, alive_ns, *astuple(tally))

    def read(self) -> tuple[int, Tally]:
        """The last that was written; two numbers of it may be of two moments."""
        alive_ns, *numbers = self._ROW.unpack_from(self._memory)
        return alive_ns, Tally(*numbers)

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()
