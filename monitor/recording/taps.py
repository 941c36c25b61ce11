# SPDX-License-Identifier: Apache-2.0
"""Where a session's facts can be listened to while it runs; nobody who listens can hold it up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from monitor.fields import Fact
from monitor.recording.lines import Happening

_MOST_EVENTS = 50_000
_MOST_TAPS = 4


class Tap:
    """What one listener has not taken yet: at most 50,000 events, and a count of the rest."""

    def __init__(self, taps: Taps, session: str) -> None:
        self._taps = taps
        self._session = session
        self._waiting: deque[Happening] = deque()
        self._lost = 0

    def put(self, happening: Happening) -> None:
        """The pipeline's thread: one event more."""
        if len(self._waiting) < _MOST_EVENTS:
            self._waiting.append(happening)
        else:
            self._lost += 1

    def take(self, limit: int = 1000) -> tuple[list[Happening], int]:
        """The oldest events, and how many were lost since the last call."""
        found = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        lost, self._lost = self._lost, 0
        return found, lost

    def close(self) -> None:
        """Listen no more."""
        self._taps.remove(self._session, self)


class Taps:
    """All that are open. While nobody listens to a session, an event costs one look-up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Tap, ...]] = {}

    def open(self, session: str) -> Tap | None:
        """Listen to a session from now on; None if four do already."""
        with self._lock:
            others = self._open.get(session, ())
            if len(others) >= _MOST_TAPS:
                return None
            tap = Tap(self, session)
            self._open[session] = (*others, tap)
            return tap

    def remove(self, session: str, tap: Tap) -> None:
        """Called by `Tap.close`."""
        with self._lock:
            left = tuple(one for one in self._open.get(session, ()) if one is not tap)
            if left:
                self._open[session] = left
            else:
                self._open.pop(session, None)

    def listened(self, session: str) -> bool:
        """Does anybody listen to it?"""
        return session in self._open

    def note(self, session: str, ktime_ns: int, facts: Sequence[Fact]) -> None:
        """An event was judged."""
        for tap in self._open.get(session, ()):
            tap.put(Happening(ktime_ns, tuple(facts)))
