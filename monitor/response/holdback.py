# SPDX-License-Identifier: Apache-2.0
"""Sessions that do more than can be looked at, and stand still until it was; it judges nothing."""

from __future__ import annotations

import time
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from monitor.errors import EstopError
from monitor.response.holds import Holds
from monitor.response.killswitch import KillSwitch
from monitor.response.standing import Target

_LONGEST_NS = 1_000_000_000
"""Nobody stands still for longer: who goes on doing too much is held back again by the next batch."""


class Busy(Target, Protocol):
    """What must be known of a session that is held back."""

    held_back_ns: int
    """How long it stood still for this, all in all."""


@dataclass(slots=True)
class _Rest:
    """Since when a session stands still, and all that it did had been looked at; 0 for not yet.

    Until `told_ns` its time is in `held_back_ns`.
    """

    live: Busy
    busy: bool
    since_ns: int
    told_ns: int
    read_ns: int = 0


class HeldBack:
    """One for the monitor; for the pipeline's thread."""

    def __init__(self, killswitch: KillSwitch, holds: Holds) -> None:
        self._killswitch = killswitch
        self._holds = holds
        self._rests: dict[str, _Rest] = {}
        """By session id."""

    def __contains__(self, session: str) -> bool:
        return session in self._rests

    def add(self, live: Busy, *, busy: bool = True) -> None:
        """It stands still from now on; `busy`: for what it did so much of, which is told."""
        # It ended; or it may not be stopped, which the stop will say.
        with suppress(EstopError, OSError):
            self._killswitch.contain(live)
            now_ns = time.monotonic_ns()
            self._rests.setdefault(live.id, _Rest(live, busy, now_ns, now_ns))

    def let_go_on(self, unread: Container[int] = (), *, at_once: bool = False) -> bool:
        """Everything was looked at, but for what sessions in the `unread` slots did; is somebody left?

        It took as long as it took, and others get as long before more comes. What waits for a verdict all
        the same goes on with that.
        """
        now_ns = time.monotonic_ns()
        for rest in list(self._rests.values()):
            live = rest.live
            if rest.busy:
                live.held_back_ns += now_ns - rest.told_ns
            rest.told_ns = now_ns
            if not self._may_go_on(rest, now_ns, unread) and not at_once:
                continue
            if self._holds.waiting(live.slot):
                continue
            del self._rests[live.id]
            with suppress(OSError):  # the session ended
                self._killswitch.uncontain(live)
        return bool(self._rests)

    def _may_go_on(self, rest: _Rest, now_ns: int, unread: Container[int]) -> bool:
        if not rest.read_ns and rest.live.slot not in unread:
            rest.read_ns = now_ns
        read_ns, stands_ns = rest.read_ns, now_ns - rest.since_ns
        rested = read_ns > 0 and now_ns - read_ns >= read_ns - rest.since_ns
        return rested or stands_ns >= _LONGEST_NS
