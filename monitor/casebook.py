# SPDX-License-Identifier: Apache-2.0
"""Incidents: opened by a stop, kept while a person looks, closed by what became of the session.

The record is their home; this knows the open ones, so that the stop path need not read the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace
from ulid import ULID

from monitor.alerts import Alert, Care, Level, SessionRef, Triage
from monitor.errors import RecordNotFoundError
from monitor.incidents import Incident, Resolution, Standing
from monitor.record.queries import LEVELS, MAX_LIMIT
from monitor.record.store import Store
from monitor.sessions.live import now_text


class Casebook:
    """One for the monitor; every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        open_ones = store.incidents(state=Standing.OPEN, limit=MAX_LIMIT).items
        self._open = {incident.session.id: incident for incident in open_ones}
        self._resolved: dict[str, str] = {}
        self._decided: dict[str, tuple[Resolution, str, str]] = {}

    def __len__(self) -> int:
        """How many wait for somebody's decision."""
        return len(self._open)

    # The stop and its end -----------------------------------------------------------------------

    def stopped(self, alert: Alert, sentence: str) -> None:
        """A rule stopped the alert's session, or tried to."""
        title, level = alert.rule.title, alert.rule.level
        self._open_one(alert.session, title, level, sentence, cause=alert.id)

    def confirmed(self, session: str, cause: str, said: str, sentence: str) -> None:
        """What was `said` of a stop (its alert's id is `cause`) before its end was known."""
        with self._lock:
            known = self._open.get(session)
            if known is not None and known.cause == cause:
                now = replace(known, sentence=known.sentence.replace(said, sentence))
                self._open[session] = now
                self._store.save_incident(now)

    def stopped_by(
        self, session: SessionRef, who: str, sentence: str, evidence: dict[str, Any] | None = None
    ) -> None:
        """A person stopped the session."""
        title = f"Stopped by {who}"
        self._open_one(session, title, Level.INFORMATIONAL, sentence, evidence=evidence)

    def found_stopped(
        self, session: SessionRef, sentence: str, evidence: dict[str, Any] | None
    ) -> None:
        """An earlier monitor stopped the session, and could not say why."""
        title = "Was Stopped When The Monitor Ended"
        self._open_one(session, title, Level.HIGH, sentence, evidence=evidence)

    @contextmanager
    def deciding(
        self, session: str, resolution: Resolution, *, who: str, why: str = ""
    ) -> Iterator[None]:
        """While this is done to the session (by id), whoever sees its end closes for this reason."""
        if resolution is not Resolution.NONE:
            self._decided[session] = resolution, who, why
        try:
            yield
        finally:
            self._decided.pop(session, None)

    def resolved(self, session: str, seen: Resolution) -> None:
        """The session (by id) goes on, or is no more; for the reason that was decided, if any was."""
        with self._lock:
            resolution, who, why = self._decided.pop(session, (seen, "", ""))
            incident = self._open.pop(session, None)
            if incident is None:
                return
            now = now_text()
            self._resolved[session] = now
            self._store.save_incident(
                replace(
                    incident,
                    state=Standing.RESOLVED,
                    resolution=resolution,
                    resolved=now,
                    resolved_by=who,
                    why=why,
                    until=now,
                )
            )

    def _open_one(
        self,
        session: SessionRef,
        title: str,
        level: Level,
        sentence: str,
        *,
        cause: str = "",
        evidence: dict[str, Any] | None = None,
    ) -> None:
        with self._lock:
            known = self._open.get(session.id)
            if known is not None:
                # What follows a stop is part of it, and may be worse than what began it.
                worse = LEVELS.index(level) > LEVELS.index(known.level)
                incident = replace(known, level=level) if worse else known
            else:
                incident = Incident(
                    id=str(ULID()),
                    session=session,
                    opened=now_text(),
                    title=title,
                    level=level,
                    sentence=sentence,
                    cause=cause,
                    after=self._resolved.get(session.id, ""),
                )
            if incident is not known or evidence is not None:
                self._open[session.id] = incident
                self._store.save_incident(incident, evidence)

    def is_open(self, session: str) -> bool:
        """Does the session (by id) wait for somebody's decision?"""
        return session in self._open

    def ended(self, session: str) -> None:
        """The session is no more, and nothing else can come of it."""
        self.resolved(session, Resolution.ENDED)
        self._resolved.pop(session, None)

    def keep_only(self, sessions: Container[str]) -> None:
        """Incidents of sessions (ids) that did not outlive an earlier monitor have ended."""
        for session in [known for known in self._open if known not in sessions]:
            self.ended(session)

    def remember(self, session: str) -> None:
        """A session of an earlier monitor: when its last incident was resolved."""
        self._resolved[session] = self._store.resolved_last(session)

    # What people make of it ---------------------------------------------------------------------

    def acknowledge(self, incident: str, *, who: str, why: str) -> Incident:
        """Somebody has seen it."""
        return self._care(incident, lambda care: seen(care, who, why))

    def assign(self, incident: str, to: str, *, who: str) -> Incident:
        """Somebody looks after it."""
        return self._care(incident, lambda care: assigned(care, to, who))

    def _care(self, incident_id: str, change: Callable[[Care], Care]) -> Incident:
        with self._lock:
            open_ones = {incident.id: incident for incident in self._open.values()}
            found = open_ones.get(incident_id)
            if found is None:
                self._store.settle()  # it may have been resolved a moment ago
                recorded = self._store.incident(incident_id)
                if recorded is None:
                    raise RecordNotFoundError(
                        f"there is no incident {incident_id!r}", mend="see `estop incidents`"
                    )
                found = recorded[0]
            changed = replace(found, care=change(found.care))
            if found.id in open_ones:
                self._open[changed.session.id] = changed
            self._store.save_incident(changed)
        return changed


def seen(care: Care, who: str, why: str) -> Care:
    """Acknowledged by `who`, now."""
    return replace(care, state=Triage.ACKNOWLEDGED, by=who, time=now_text(), why=why)


def assigned(care: Care, to: str, who: str) -> Care:
    """Given to `to` by `who`, now."""
    return replace(care, assignee=to, assigned_by=who, assigned=now_text())
