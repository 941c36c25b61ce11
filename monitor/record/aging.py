# SPDX-License-Identifier: Apache-2.0
"""What is old enough to go from the record, as SQL; it must not decide when.

An incident goes with its session's alerts of its time: as long as it is kept, they are, however old.
A session that ended goes last, with what people did to it and gave it leave to do.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

_RESOLVED = """
    DELETE FROM incidents WHERE id IN (
        SELECT id FROM incidents WHERE state = 'resolved'
            AND json_extract(CAST(json AS TEXT), '$.resolved') < :before
        LIMIT :most)"""

_ALERTS = """
    DELETE FROM alerts WHERE id IN (
        SELECT id FROM alerts AS old WHERE time < :before AND NOT EXISTS (
            SELECT 1 FROM incidents WHERE session = old.session
                AND (json_extract(CAST(json AS TEXT), '$.cause') = old.id
                    OR json_extract(CAST(json AS TEXT), '$.after') < old.time
                    AND (state = 'open'
                        OR old.time <= json_extract(CAST(json AS TEXT), '$.until'))))
        ORDER BY time LIMIT :most)"""

_SESSIONS = """
    SELECT id FROM sessions
    WHERE coalesce(nullif(json_extract(CAST(json AS TEXT), '$.ended'), ''), started) < :before
        AND id NOT IN (SELECT value FROM json_each(:living))
        AND NOT EXISTS (SELECT 1 FROM alerts WHERE session = sessions.id)
        AND NOT EXISTS (SELECT 1 FROM incidents WHERE session = sessions.id)
    LIMIT :most"""

_OF_A_SESSION = (
    "DELETE FROM actions WHERE session = ?",
    "DELETE FROM grants WHERE session = ?",
    "DELETE FROM memories WHERE session = ?",
    "DELETE FROM sessions WHERE id = ?",
)


def remove(
    connection: sqlite3.Connection, before: str, living: Collection[str], most: int
) -> tuple[int, int]:
    """Delete up to `most` rows of each kind from before this time; how many, and alerts among them.

    `living` are ids of sessions that stay, whatever the record says of them.
    """
    given = {"before": before, "most": most, "living": json.dumps(list(living))}
    incidents = connection.execute(_RESOLVED, given).rowcount
    alerts = connection.execute(_ALERTS, given).rowcount
    sessions = connection.execute(_SESSIONS, given).fetchall()
    for statement in _OF_A_SESSION:
        connection.executemany(statement, sessions)
    return incidents + alerts + len(sessions), alerts
