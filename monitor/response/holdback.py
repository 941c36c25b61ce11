# SPDX-License-Identifier: Apache-2.0
"""Sessions that do more than can be looked at, and stand still until it was; it judges nothing."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from monitor.errors import EstopError
from monitor.response.holds import Holds
from monitor.response.killswitch import KillSwitch
from monitor.response.standing import Target


class Busy(Target, Protocol):
    """What must be known of a session that is held back."""

    held_back_ns: int
    """How long it stood still for this, all in all."""


@dataclass(slots=True)
class _Rest:
    """Since when a session stands still, and all that it did had been looked at."""

    live: Busy
    since_ns: int
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

    def add(self, live: Busy) -> None:
        """It stands still from now on."""
        # It ended; or it may not be stopped, which the stop will say.
        with suppress(EstopError, OSError):
            self._killswitch.contain(live)
            self._rests.setdefault(live.id, _Rest(live, time.monotonic_ns()))

    def let_go_on(self, *, at_once: bool = False) -> None:
        """Everything was looked at. It took as long as it took, and others get as long before more comes.

        What waits for a verdict all the same goes on with that.
        """
        now_ns = time.monotonic_ns()
        for rest in list(self._rests.values()):
            rest.read_ns = rest.read_ns or now_ns
            live, rested = rest.live, now_ns - rest.read_ns >= rest.read_ns - rest.since_ns
            if not (rested or at_once) or self._holds.waiting(live.slot):
                continue
            del self._rests[live.id]
            live.held_back_ns += now_ns - rest.since_ns
            with suppress(OSError):  # the session ended
                self._killswitch.uncontain(live)
