# SPDX-License-Identifier: Apache-2.0
"""What can be asked of the record; it only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict, TypeVar

import msgspec
from msgspec.structs import replace

from monitor.alerts import Action, ActionRecord, Alert, Level, Response, Triage
from monitor.incidents import Grant, Incident, Standing, Token
from monitor.record.decode import evidence_from, from_json
from monitor.subjects import Session

T = TypeVar("T")

LEVELS = list(Level)
"""Weakest first; the index is what the `level` column holds."""

MAX_LIMIT = 1000
_DEFAULT_LIMIT = 100


class AlertFilters(TypedDict, total=False):
    """Which alerts, and which page of them. All conditions must hold; None is no condition.

    Without a cursor, or with `before`: history, newest first. With `since`: what is new or has
    changed, in the order it happened.
    """

    session: str | None
    """Id or name."""
    rule: str | None
    """Id."""
    level: Level | None
    """This severe or worse."""
    response: Response | None
    action: Action | None
    tactic: str | None
    """Of MITRE ATT&CK, as Sigma's tags have it: `credential-access`."""
    state: Triage | None
    text: str | None
    """In the session's name, the rule's title, the outcome's detail or the event; any case."""
    after: str | None
    """At this time or later: RFC 3339 in UTC with milliseconds, as alerts have it."""
    until: str | None
    """Before this time."""
    uid: int | None
    """Of sessions of this user."""
    since: int | None
    before: int | None
    limit: int


class IncidentFilters(TypedDict, total=False):
    """Which incidents, and which page of them, as `AlertFilters`."""

    session: str | None
    level: Level | None
    state: Standing | None
    text: str | None
    uid: int | None
    since: int | None
    before: int | None
    limit: int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts without their evidence, and the cursor for `since` or `before` of the next call.

    Going back, `next` is null at the end. Going forward it is never null: ask again later with it.
    """

    items: list[Alert]
    next: int | None


class IncidentPage(msgspec.Struct, frozen=True, kw_only=True):
    """Incidents, and the cursor as in `Page`."""

    items: list[Incident]
    next: int | None


_MAX_TOLD = 10_000
"""More acts than that cannot lie unread in the kernel's ring of alarms."""

Told = tuple[str, int, str]
"""Session id, `ktime_ns` of the act, rule id: one alert, however often its record is read."""

_CONDITIONS = {
    "session": ":session IN (session, session_name)",
    "rule": "rule = :rule",
    "level": "level >= :level",
    "response": "response = :response",
    "action": "action = :action",
    "tactic": "instr(tags, ' attack.' || :tactic || ' ')",
    "state": "state = :state",
    "text": r"words LIKE :text ESCAPE '\'",
    "after": "time >= :after",
    "until": "time < :until",
    "uid": "session IN (SELECT id FROM sessions WHERE uid = :uid)",
    "since": "seq > :since",
    "before": "born < :before",
}

_JSON = {
    # What people made of an alert is spliced into its JSON: to decode and encode it costs more.
    "alerts": "CAST(CASE WHEN care IS NULL THEN json ELSE"
    " substr(CAST(json AS TEXT), 1, length(CAST(json AS TEXT)) - 1) || ',\"care\":' ||"
    " CAST(care AS TEXT) || '}' END AS BLOB)",
    "incidents": "json",
}


def told(connection: sqlite3.Connection) -> frozenset[Told]:
    """The newest alerts, by what makes two of them the same."""
    # CAST: SQLite's JSON functions take a blob for its binary form.
    found = connection.execute(
        "SELECT session, json_extract(CAST(json AS TEXT), '$.event.ktime_ns'), rule"
        " FROM alerts ORDER BY born DESC LIMIT ?",
        (_MAX_TOLD,),
    )
    return frozenset((session, ktime_ns, rule) for session, ktime_ns, rule in found)


def alerts(connection: sqlite3.Connection, filters: AlertFilters) -> Page:
    """One page of the alerts that meet every filter."""
    found, cursor = _page(connection, "alerts", {**filters})
    return Page(items=[from_json(Alert, json) for json in found], next=cursor)


def incidents(connection: sqlite3.Connection, filters: IncidentFilters) -> IncidentPage:
    """One page of the incidents that meet every filter."""
    found, cursor = _page(connection, "incidents", {**filters})
    items = [from_json(Incident, json) for json in found]
    return IncidentPage(items=items, next=cursor)


def _page(
    connection: sqlite3.Connection, table: str, filters: dict[str, Any]
) -> tuple[list[bytes], int | None]:
    limit = min(max(filters.get("limit", _DEFAULT_LIMIT), 1), MAX_LIMIT)
    since = filters.get("since")
    # One more than asked for tells whether there is a next page.
    found = rows(connection, table, {**filters, "limit": limit + 1})
    page = found[:limit]
    cursor = page[-1][0] if page and (len(found) > limit or since is not None) else since
    return [json for _, json in page], cursor


def rows(
    connection: sqlite3.Connection, table: str, filters: Mapping[str, Any]
) -> list[tuple[int, bytes]]:
    """Cursor and JSON of each row of `alerts` or `incidents` that meets every filter, in their order."""
    given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    where = " AND ".join(_CONDITIONS[name] for name in given if name != "limit") or "1"
    forward = "since" in given
    statement = (
        f"SELECT {'seq' if forward else 'born'}, {_JSON[table]} FROM {table} WHERE {where}"  # noqa: S608
        f" ORDER BY {'seq ASC' if forward else 'born DESC'} LIMIT :limit"
    )  # only our own constants are formatted in
    return connection.execute(statement, _bound(given)).fetchall()


def incident(
    connection: sqlite3.Connection, incident_id: str, uid: int | None
) -> tuple[Incident, dict[str, Any] | None] | None:
    """One incident with the evidence that was taken for it alone; with `uid`, only that user's."""
    row = connection.execute(
        "SELECT json, evidence FROM incidents WHERE id = :id AND"
        " (:uid IS NULL OR session IN (SELECT id FROM sessions WHERE uid = :uid))",
        {"id": incident_id, "uid": uid},
    ).fetchone()
    if row is None:
        return None
    return from_json(Incident, row[0]), evidence_from(row[1])


def resolved_last(connection: sqlite3.Connection, session: str) -> str:
    """When the latest resolved incident of a session was; empty if there was none."""
    row = connection.execute(
        "SELECT json_extract(CAST(json AS TEXT), '$.resolved') FROM incidents"
        " WHERE session = ? AND state = 'resolved' ORDER BY born DESC LIMIT 1",
        (session,),
    ).fetchone()
    return str(row[0]) if row else ""


def told_to(connection: sqlite3.Connection, target: str) -> bytes | None:
    """How far a target of notices has been told, as it was saved."""
    row = connection.execute("SELECT json FROM told WHERE id = ?", (target,)).fetchone()
    return None if row is None else bytes(row[0])


def memory(connection: sqlite3.Connection, row: str, kind: type[T]) -> T | None:
    """One memory of a session, as it was saved; None where there is none."""
    found = connection.execute("SELECT json FROM memories WHERE id = ?", (row,)).fetchone()
    return None if found is None else from_json(kind, found[0])


def grants(connection: sqlite3.Connection) -> list[Grant]:
    """All, oldest first."""
    found = connection.execute("SELECT json FROM grants ORDER BY number")
    return [from_json(Grant, json) for json in _first(found)]


def tokens(connection: sqlite3.Connection) -> list[tuple[str, Token]]:
    """All, each after the hash of its secret."""
    found = connection.execute("SELECT hash, json FROM tokens ORDER BY id")
    return [(hashed, from_json(Token, json)) for hashed, json in found]


def alert(connection: sqlite3.Connection, alert_id: str, uid: int | None) -> Alert | None:
    """One alert by id, with its evidence; with `uid`, only that user's."""
    row = connection.execute(
        f"SELECT {_JSON['alerts']}, evidence FROM alerts WHERE id = :id AND"  # noqa: S608 - ours
        " (:uid IS NULL OR session IN (SELECT id FROM sessions WHERE uid = :uid))",
        {"id": alert_id, "uid": uid},
    ).fetchone()
    if row is None:
        return None
    return replace(from_json(Alert, row[0]), evidence=evidence_from(row[1]))


def sessions(connection: sqlite3.Connection) -> list[Session]:
    """All, newest first."""
    rows = connection.execute("SELECT json FROM sessions ORDER BY started DESC, id DESC")
    return [from_json(Session, json) for json in _first(rows)]


def actions(connection: sqlite3.Connection, session: str) -> list[ActionRecord]:
    """Of one session, oldest first."""
    rows = connection.execute(
        "SELECT json FROM actions WHERE session = ? ORDER BY number", (session,)
    )
    return [from_json(ActionRecord, json) for json in _first(rows)]


def _first(rows: Iterator[Any]) -> Iterator[bytes]:
    return (row[0] for row in rows)


def _bound(given: dict[str, Any]) -> dict[str, Any]:
    bound = dict(given)
    if "level" in given:
        bound["level"] = LEVELS.index(given["level"])
    if "text" in given:
        escaped = given["text"].replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        bound["text"] = f"%{escaped}%"
    return bound
