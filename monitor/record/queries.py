# SPDX-License-Identifier: Apache-2.0
"""What can be asked of the record; it only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, TypedDict

import msgspec
from msgspec.structs import replace

from monitor.alerts import Action, ActionRecord, Alert, Level, Response
from monitor.subjects import Session

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
    text: str | None
    """In the session's name, the rule's title, the outcome's detail or the event; any case."""
    uid: int | None
    """Of sessions of this user."""
    since: int | None
    before: int | None
    limit: int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts without their evidence, and the cursor for `since` or `before` of the next call.

    Going back, `next` is null at the end. Going forward it is never null: ask again later with it.
    """

    items: list[Alert]
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
    "text": r"words LIKE :text ESCAPE '\'",
    "uid": "session IN (SELECT id FROM sessions WHERE uid = :uid)",
    "since": "seq > :since",
    "before": "born < :before",
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
    limit = min(max(filters.get("limit", _DEFAULT_LIMIT), 1), MAX_LIMIT)
    since = filters.get("since")
    # One more than asked for tells whether there is a next page.
    found = rows(connection, {**filters, "limit": limit + 1})
    page = found[:limit]
    cursor = page[-1][0] if page and (len(found) > limit or since is not None) else since
    return Page(items=[msgspec.json.decode(json, type=Alert) for _, json in page], next=cursor)


def rows(connection: sqlite3.Connection, filters: AlertFilters) -> list[tuple[int, bytes]]:
    """Cursor and JSON of each alert that meets every filter, in the order of `AlertFilters`."""
    given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    where = " AND ".join(_CONDITIONS[name] for name in given if name != "limit") or "1"
    forward = "since" in given
    statement = (
        f"SELECT {'seq' if forward else 'born'}, json FROM alerts WHERE {where}"  # noqa: S608
        f" ORDER BY {'seq ASC' if forward else 'born DESC'} LIMIT :limit"
    )  # only our own constants are formatted in
    return connection.execute(statement, _bound(given)).fetchall()


def alert(connection: sqlite3.Connection, alert_id: str, uid: int | None) -> Alert | None:
    """One alert by id, with its evidence; with `uid`, only that user's."""
    row = connection.execute(
        "SELECT json, evidence FROM alerts WHERE id = :id AND"
        " (:uid IS NULL OR session IN (SELECT id FROM sessions WHERE uid = :uid))",
        {"id": alert_id, "uid": uid},
    ).fetchone()
    if row is None:
        return None
    found = msgspec.json.decode(row[0], type=Alert)
    return found if row[1] is None else replace(found, evidence=msgspec.json.decode(row[1]))


def sessions(connection: sqlite3.Connection) -> list[Session]:
    """All, newest first."""
    rows = connection.execute("SELECT json FROM sessions ORDER BY started DESC, id DESC")
    return [msgspec.json.decode(json, type=Session) for json in _first(rows)]


def actions(connection: sqlite3.Connection, session: str) -> list[ActionRecord]:
    """Of one session, oldest first."""
    rows = connection.execute(
        "SELECT json FROM actions WHERE session = ? ORDER BY number", (session,)
    )
    return [msgspec.json.decode(json, type=ActionRecord) for json in _first(rows)]


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
