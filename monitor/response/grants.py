# SPDX-License-Identifier: Apache-2.0
"""What people gave sessions leave to do, while it lasts.

A session with a grant is asked about, never refused by the kernel alone: only Python knows grants.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from monitor.incidents import Grant


class Flag(Protocol):
    """`Kernel.grant`: has the session in this slot a grant?"""

    def __call__(self, slot: int, *, on: bool) -> None:
        """Tell the kernel."""
        ...


class Grants:
    """Those that hold now. `covering` belongs to the pipeline's thread, the rest to anybody."""

    def __init__(self, flag: Flag, clock: Callable[[], float] = time.time) -> None:
        self._flag = flag
        self._clock = clock
        self._lock = threading.Lock()
        self._by_session: dict[str, tuple[Grant, ...]] = {}
        self._slots: dict[str, int] = {}

    def add(self, grant: Grant, slot: int) -> None:
        """From now on, for the session in this slot."""
        with self._lock:
            self._slots[grant.session.id] = slot
            known = self._by_session.get(grant.session.id, ())
            self._by_session[grant.session.id] = (*known, grant)
            self._flag(slot, on=True)

    def remove(self, grant_id: str) -> Grant | None:
        """Not any more; None if there is no such grant that holds."""
        found = next((grant for grant in self.in_force() if grant.id == grant_id), None)
        if found is not None:
            self._keep(found.session.id, lambda one: one.id != grant_id)
        return found

    def forget(self, session: str) -> None:
        """The session has ended, and its slot may be another's."""
        with self._lock:
            self._by_session.pop(session, None)
            self._slots.pop(session, None)

    def expire(self) -> None:
        """Drop those whose time is over; they have covered nothing since, this tells the kernel."""
        now_s = self._clock()
        for session in list(self._by_session):
            self._keep(session, lambda one: one.expires_s > now_s)

    def in_force(self) -> list[Grant]:
        """All that hold now."""
        now_s = self._clock()
        held = [one for grants in list(self._by_session.values()) for one in grants]
        return [one for one in held if one.expires_s > now_s]

    def covering(
        self, session: str, rule: str, spellings: Iterable[Mapping[str, Any]]
    ) -> Grant | None:
        """The grant for this match, under any spelling of its fields."""
        grants = self._by_session.get(session)
        if not grants:
            return None
        now_s = self._clock()
        known = list(spellings)
        return next(
            (one for one in grants if any(one.covers(session, rule, f, now_s) for f in known)), None
        )

    def _keep(self, session: str, wanted: Callable[[Grant], bool]) -> None:
        with self._lock:
            kept = tuple(filter(wanted, self._by_session.get(session, ())))
            if kept:
                self._by_session[session] = kept  # in one step: `covering` looks without the lock
                return
            self._by_session.pop(session, None)
            if (slot := self._slots.pop(session, 0)) != 0:
                self._flag(slot, on=False)
