# SPDX-License-Identifier: Apache-2.0
"""The record on disk, alerts and what became of them before all: saved without waiting, read back by anybody.

It must not decide anything and must not block: what the disk cannot take waits in a bounded queue,
and `health()` says so.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar, Unpack

import msgspec
from msgspec.structs import replace

from monitor.alerts import ActionRecord, Alert, Care
from monitor.errors import StoreError
from monitor.incidents import Grant, Incident, Token
from monitor.metrics import Metrics
from monitor.record import queries
from monitor.record.database import Database, Row, reading
from monitor.record.encode import clean, to_json, words
from monitor.record.queries import LEVELS, AlertFilters, IncidentFilters, IncidentPage, Page
from monitor.record.writer import Writer
from monitor.subjects import Done, Labelled, Session

_LOG = logging.getLogger(__name__)

M = TypeVar("M", Labelled, Done)

Subscriber = Callable[[int], None]
"""Called after a commit, on the writer's thread, with the newest `seq`; it must return at once."""


class Store:
    """The record of one monitor. Close it; a closed one takes nothing more."""

    def __init__(
        self,
        path: Path,
        *,
        metrics: Metrics | None = None,
        capacity_rows: int = 10_000,
        capacity_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._database = Database(path)
        self._subscribers: set[Subscriber] = set()
        self._lock = threading.Lock()
        self._disk = threading.Lock()
        """Of the writer and of whoever takes away what is old."""
        self._writer = Writer(
            self._commit,
            metrics=metrics or Metrics(),
            capacity_rows=capacity_rows,
            capacity_bytes=capacity_bytes,
        )

    def save_alert(self, alert: Alert) -> bool:
        """Record an alert, or its newer state; False if there was no room for it."""
        shown = [alert.session.name, alert.rule.title, alert.outcome.detail, alert.event]
        columns = {
            "session": alert.session.id,
            "session_name": alert.session.name,
            "rule": alert.rule.id,
            "level": LEVELS.index(alert.rule.level),
            "response": alert.response.value,
            "action": alert.outcome.action.value,
            "time": alert.time,
            "tags": "".join(f" {tag}" for tag in (*alert.rule.tags, "")),
            "words": words(msgspec.to_builtins(shown)),
            "evidence": None if alert.evidence is None else to_json(alert.evidence),
        }
        bare = replace(alert, evidence=None, care=msgspec.UNSET)
        return self._offer("alerts", alert.id, bare, columns)

    def save_care(self, alert: str, care: Care) -> bool:
        """Record who looks after an alert (by id), whatever else changes of it meanwhile."""
        return self._offer("care", alert, care, {"state": care.state.value})

    def save_incident(self, incident: Incident, evidence: dict[str, Any] | None = None) -> bool:
        """Record an incident, or its newer state; evidence that was recorded before stays."""
        shown = [incident.session.name, incident.title, incident.sentence]
        columns = {
            "session": incident.session.id,
            "session_name": incident.session.name,
            "level": LEVELS.index(incident.level),
            "state": incident.state.value,
            "words": words(shown),
            "evidence": None if evidence is None else to_json(evidence),
        }
        return self._offer("incidents", incident.id, incident, columns)

    def save_grant(self, grant: Grant) -> bool:
        """Record a grant, or that it was revoked."""
        return self._offer("grants", grant.id, grant, {"session": grant.session.id})

    def save_token(self, token: Token, hashed: str) -> bool:
        """Record a token under the hash of its secret, or that it was revoked."""
        return self._offer("tokens", token.id, token, {"hash": hashed})

    def save_action(self, action: ActionRecord) -> bool:
        """Record what a person did to a session, or how it ended."""
        return self._offer("actions", action.id, action, {"session": action.session.id})

    def save_session(self, session: Session) -> bool:
        """Record a session, or its newer state. Save it before its first alert."""
        columns = {"name": session.name, "uid": session.uid, "started": session.started}
        return self._offer("sessions", session.id, session, columns)

    def save_memory(self, session: str, memory: Labelled | Done) -> bool:
        """Record what the next monitor has to know of a session (by id)."""
        row = _memory_row(session, type(memory))
        return self._offer("memories", row, memory, {"session": session})

    def memory(self, session: str, kind: type[M]) -> M | None:
        """What was saved of that kind for a session (by id), or None."""
        with reading(self._database.path) as connection:
            return queries.memory(connection, _memory_row(session, kind), kind)

    def save_told(self, target: str, told: msgspec.Struct) -> bool:
        """Record how far a target of notices has been told."""
        return self._offer("told", target, told, {})

    def alerts(self, **filters: Unpack[AlertFilters]) -> Page:
        """One page of alerts; see `AlertFilters`."""
        with reading(self._database.path) as connection:
            return queries.alerts(connection, filters)

    def incidents(self, **filters: Unpack[IncidentFilters]) -> IncidentPage:
        """One page of incidents; see `IncidentFilters`."""
        with reading(self._database.path) as connection:
            return queries.incidents(connection, filters)

    def incident(
        self, incident_id: str, *, uid: int | None = None
    ) -> tuple[Incident, dict[str, Any] | None] | None:
        """One incident and its own evidence; with `uid`, only of a session of that user."""
        with reading(self._database.path) as connection:
            return queries.incident(connection, incident_id, uid)

    def resolved_last(self, session: str) -> str:
        """When the latest resolved incident of a session (by id) was; empty if there was none."""
        with reading(self._database.path) as connection:
            return queries.resolved_last(connection, session)

    def told_to(self, target: str) -> bytes | None:
        """How far a target of notices has been told, as `save_told` was given it."""
        with reading(self._database.path) as connection:
            return queries.told_to(connection, target)

    def grants(self) -> list[Grant]:
        """Every grant ever given, oldest first."""
        with reading(self._database.path) as connection:
            return queries.grants(connection)

    def tokens(self) -> list[tuple[str, Token]]:
        """Every token ever made, each after the hash of its secret."""
        with reading(self._database.path) as connection:
            return queries.tokens(connection)

    def changes(
        self, table: str, filters: Mapping[str, Any], *, since: int, limit: int
    ) -> list[tuple[int, bytes]]:
        """What is new or has changed in `alerts` or `incidents` after `since`, oldest first.

        Each with its `seq` and its JSON.
        """
        with reading(self._database.path) as connection:
            wanted = {**filters, "since": since, "limit": limit}
            return queries.rows(connection, table, wanted)

    def alert(self, alert_id: str, *, uid: int | None = None) -> Alert | None:
        """One alert, or None; with `uid`, only if it is of a session of that user."""
        with reading(self._database.path) as connection:
            return queries.alert(connection, alert_id, uid)

    def told(self) -> frozenset[queries.Told]:
        """The newest alerts, by what makes two of them the same."""
        with reading(self._database.path) as connection:
            return queries.told(connection)

    def sessions(self) -> list[Session]:
        """Every session ever recorded, newest first, as it was last seen."""
        with reading(self._database.path) as connection:
            return queries.sessions(connection)

    def actions(self, session: str) -> list[ActionRecord]:
        """What was done to a session (by id), oldest first."""
        with reading(self._database.path) as connection:
            return queries.actions(connection, session)

    @property
    def taken(self) -> int:
        """Number of the newest row that was taken: a later `durable` of at least this has it."""
        return self._writer.taken

    @property
    def durable(self) -> int:
        """Every row up to this number is on disk, or was dropped and counted."""
        return self._writer.durable

    @property
    def seq(self) -> int:
        """The newest change on disk: what a follower that starts now has not missed."""
        return self._database.seq

    def subscribe(self, callback: Subscriber) -> None:
        """Call `callback` after every commit until `unsubscribe`."""
        with self._lock:
            self._subscribers.add(callback)

    def unsubscribe(self, callback: Subscriber) -> None:
        """Call it no more; a call already under way may still arrive."""
        with self._lock:
            self._subscribers.discard(callback)

    def forget(self, before: str, living: Collection[str] = ()) -> int:
        """Take away some of what is from before this time: how many rows, 0 at the end.

        Alerts, resolved incidents, and sessions of which nothing else is left; open incidents, what
        belongs to a kept one, and sessions in `living` (ids) stay.
        """
        with self._disk:
            return self._database.forget(before, living)

    def shrink(self) -> bool:
        """Give back to the disk some of what `forget` made free; is there more?"""
        with self._disk:
            return self._database.shrink()

    def health(self) -> dict[str, Any]:
        """`Health.store`: how much is recorded, how much waits, what was lost, what is wrong."""
        writer = self._writer
        error, queued = writer.error, writer.queued
        return {
            "alerts": self._database.alerts,
            "queue": queued,
            "dropped": writer.dropped,
            "error": f"{error}: {error.mend}; {queued} rows wait" if error else "",
        }

    def settle(self, timeout_s: float = 5.0) -> None:
        """Wait until what was saved by now is on disk; StoreError says why it is not yet."""
        if not self._writer.settle(self._writer.taken, timeout_s):
            error = self._writer.error or StoreError(
                f"{self._database.path} is slow: nothing was written for {timeout_s:.0f} s",
                mend="look at the disk; what waits is written as soon as it can be",
            )
            raise error

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything saved so far is on disk; False if it was not in time."""
        return self._writer.flush(timeout_s)

    def close(self, timeout_s: float = 5.0) -> int:
        """Write what waits, within the deadline; return how many rows are lost by ending now."""
        lost = self._writer.close(timeout_s)
        if lost:
            _LOG.error("%d rows could not be written to %s", lost, self._database.path)
        else:
            self._database.close()
        return lost

    def _offer(self, table: str, row: str, struct: msgspec.Struct, columns: dict[str, Any]) -> bool:
        # Encoded here, in the caller's thread: the caller may change its dicts afterwards.
        return self._writer.offer(Row(table, row, {**clean(columns), "json": to_json(struct)}))

    def _commit(self, rows: list[Row]) -> None:
        before = self._database.seq
        with self._disk:
            self._database.write(rows)
        if self._database.seq == before:
            return
        with self._lock:
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            try:
                subscriber(self._database.seq)
            except Exception:  # noqa: BLE001 - a listener's fault must not end the record
                _LOG.exception("a subscriber of the record failed; the rows are on disk")


def _memory_row(session: str, kind: type) -> str:
    return f"{session} {kind.__name__.lower()}"
