# SPDX-License-Identifier: Apache-2.0
"""What the programs saw, in the order of two rings: waited for, read, and given back.

read()       the next batch of records
ahead()      alarms behind it, before their turn
commit()     give records back to the kernel; until then the next monitor reads them again
beat()       whoever reads is alive
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from contextlib import suppress

from monitor.capture import bpf
from monitor.capture.ring import RingReader

ALARMS = "alarms"
RINGS = ("events", ALARMS)
"""In the order of reading: whatever an event builds on (a fork) is then in the alarms read after."""

_GATHER_S = 0.002
"""How long ordinary records of a session that is at work come together before they are looked at.

A monitor that wakes for each of them shares the processors with the work: of two, a build that makes
400 records in a quarter of a second lost 8 to 12 percent, and loses 3 to 7 so (`make bench
ONLY=build`). Longer gained nothing.
"""
_LOOK_AGAIN_S = 0.0005
_LONGEST_LOOK_S = 0.005
_ONLY_ROW = (0,)
_FLOODED = {"events": 32, ALARMS: 4}
"""The part of each ring that may wait to be read: of the events, some thousand records or a quarter of a
second; of the alarms, two thousand calls that are told whoever makes them (setuid, memfd_create)."""

Mark = tuple[int, ...]
"""How far the rings had been read."""


class Records:
    """Both rings, for one thread."""

    def __init__(
        self,
        rings: Mapping[str, int],
        beat: bpf.Map | bpf.Cells,
        crowded: bpf.Map | bpf.Cells,
        batch: int,
    ) -> None:
        """`rings`: descriptors of the maps named in `RINGS`, which are closed with this."""
        self.left: list[bytes] = []
        """Records of programs that these replaced: they come with the first read."""
        self.behind = False
        """True while the last read left records in a ring."""
        self.flooded = False
        """True while so many are left that somebody makes them faster than they are read."""
        self._beat, self._crowded, self._batch = beat, crowded, batch
        self._epoll = select.epoll()
        self._bell = select.epoll()
        self._urgent = select.epoll()
        for of_all in (self._epoll, self._urgent):
            of_all.register(self._bell, select.EPOLLIN)
        self._rings = [self._open(name, rings[name]) for name in RINGS]
        self._busy = False

    def _open(self, name: str, fd: int) -> RingReader:
        self._epoll.register(fd, select.EPOLLIN)
        if name == ALARMS:
            self._urgent.register(fd, select.EPOLLIN)
        return RingReader(fd, bpf.MapInfo.of(fd).max_entries)

    def read(self, timeout_ms: int) -> list[bytes]:
        """Up to `batch` records of each ring, waiting at most `timeout_ms` for the first.

        A flood fills its own ring and its own share of the batch, and no more. While records are
        held that were read and not committed, the wait is at most 5 ms.
        """
        if timeout_ms:
            self.wait(timeout_ms)
        records, self.left = self.left, []
        behind = False
        for ring in self._rings:
            found = ring.read(self._batch)
            behind |= len(found) >= self._batch
            records += found
            # A full ring loses what comes next for certain; a killed monitor is the lesser danger.
            if ring.held_bytes > ring.size_bytes // 2:
                ring.commit()
        self.behind = behind
        self.flooded = any(
            ring.backlog_bytes > ring.size_bytes // _FLOODED[name]
            for name, ring in zip(RINGS, self._rings, strict=True)
        )
        self._crowded.set(_ONLY_ROW, (self._rings[0].crowded,))
        self._busy = bool(records)
        return records

    def ahead(self) -> list[bytes]:
        """Alarms that came since the last look; the next `read` returns them in their turn."""
        return self._rings[RINGS.index(ALARMS)].ahead(self._batch)

    def wake_on(self, fd: int) -> None:
        """End `wait` and `read` also when there is something to read here, until it is closed."""
        self._bell.register(fd, select.EPOLLIN)

    def wait(self, timeout_ms: int) -> None:
        """For a record, or for what `wake_on` named; as long as `read` would.

        The first record after a silence ends it at once, and so does an alarm. Ordinary records that
        follow others are left to come together for 2 ms.
        """
        if self._busy and timeout_ms and not self.left and not self.behind:
            self._gather()
        if not self.left and not any(ring.behind for ring in self._rings):
            self._wait(timeout_ms / 1000)

    def _gather(self) -> None:
        # What is read and not given back makes poll return at once: `_wait` looks in its own way.
        if not any(ring.held_bytes for ring in self._rings):
            select.select([self._urgent], [], [], _GATHER_S)

    def _wait(self, timeout_s: float) -> None:
        if not any(ring.held_bytes for ring in self._rings):
            with suppress(InterruptedError):
                self._epoll.poll(timeout_s)
            return
        # The kernel wakes nobody for a record behind one that is held: see `ring.py`.
        end = time.monotonic() + min(timeout_s, _LONGEST_LOOK_S)
        while time.monotonic() < end and not any(ring.behind for ring in self._rings):
            if select.select([self._bell], [], [], _LOOK_AGAIN_S)[0]:  # finer than epoll's 1 ms
                return

    def mark(self) -> Mark:
        """How far the rings have been read: what `commit` may be told later."""
        return tuple(ring.position for ring in self._rings)

    def commit(self, mark: Mark | None = None) -> None:
        """Nobody needs the records read so far (or until `mark`) again."""
        if mark is None:
            for ring in self._rings:
                ring.commit()
            return
        for ring, position in zip(self._rings, mark, strict=True):
            if position > ring.position - ring.held_bytes:
                ring.commit(position)

    def beat(self) -> None:
        """The monitor is alive; a session whose monitor is not is held."""
        self._beat.set(_ONLY_ROW, (time.clock_gettime_ns(time.CLOCK_BOOTTIME),))

    @property
    def closed(self) -> bool:
        """Was `close` called?"""
        return self._epoll.closed

    def close(self) -> None:
        """What was not committed stays for the next monitor."""
        for ring in self._rings:
            self._epoll.unregister(ring.fd)
            ring.close()
            os.close(ring.fd)
        for of_all in (self._epoll, self._urgent, self._bell):
            of_all.close()
