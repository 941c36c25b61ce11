# SPDX-License-Identifier: Apache-2.0
"""The SQLite file: its schema, its version, and its errors in plain words; no threads, no queue.

An alert or incident has two numbers from one counter. `seq` is the number of its latest change and
is what followers resume from. `born` is the number of its first appearance and gives history its
order.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from monitor.directories import PRIVATE, own_directory
from monitor.errors import StoreError
from monitor.record import aging

_BEGINNING = """
CREATE TABLE alerts (
    id TEXT PRIMARY KEY,
    seq INTEGER NOT NULL UNIQUE,
    born INTEGER NOT NULL UNIQUE,
    session TEXT NOT NULL,
    session_name TEXT NOT NULL,
    rule TEXT NOT NULL,
    level INTEGER NOT NULL,
    response TEXT NOT NULL,
    action TEXT NOT NULL,
    words TEXT NOT NULL,
    json BLOB NOT NULL,
    evidence BLOB -- apart, because lists and streams would read hundreds of kilobytes a row
);
CREATE INDEX alerts_by_session ON alerts (session, born);
CREATE TABLE actions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    session TEXT NOT NULL,
    json BLOB NOT NULL
);
CREATE INDEX actions_by_session ON actions (session, number);
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    uid INTEGER NOT NULL,
    started TEXT NOT NULL,
    json BLOB NOT NULL
);
"""
_DESK = """
ALTER TABLE alerts ADD COLUMN tags TEXT NOT NULL DEFAULT '';
UPDATE alerts SET tags = coalesce(
    (SELECT ' ' || group_concat(value, ' ') || ' ' FROM json_each(CAST(alerts.json AS TEXT), '$.rule.tags')),
    '');
ALTER TABLE alerts ADD COLUMN time TEXT NOT NULL DEFAULT '';
UPDATE alerts SET time = json_extract(CAST(json AS TEXT), '$.time');
ALTER TABLE alerts ADD COLUMN state TEXT NOT NULL DEFAULT 'new';
ALTER TABLE alerts ADD COLUMN care BLOB; -- apart, because people and evidence change a row at once
CREATE TABLE incidents (
    id TEXT PRIMARY KEY,
    seq INTEGER NOT NULL UNIQUE,
    born INTEGER NOT NULL UNIQUE,
    session TEXT NOT NULL,
    session_name TEXT NOT NULL,
    level INTEGER NOT NULL,
    state TEXT NOT NULL,
    words TEXT NOT NULL,
    json BLOB NOT NULL,
    evidence BLOB
);
CREATE INDEX incidents_by_session ON incidents (session, born);
CREATE TABLE grants (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    session TEXT NOT NULL,
    json BLOB NOT NULL
);
CREATE TABLE told (
    id TEXT PRIMARY KEY,
    json BLOB NOT NULL
);
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    json BLOB NOT NULL
);
"""

_AGING = """
CREATE INDEX alerts_by_time ON alerts (time);
CREATE TABLE numbers (seq INTEGER NOT NULL); -- given to a row that may be gone: never give it again
INSERT INTO numbers (seq) VALUES (0);
"""

_MEMORY = """
CREATE TABLE memories (
    id TEXT PRIMARY KEY, -- the session's and which memory
    session TEXT NOT NULL,
    json BLOB NOT NULL
);
CREATE INDEX memories_by_session ON memories (session);
"""

_STEPS = (_BEGINNING, _DESK, _AGING, _MEMORY)
"""Each brings a file from the version before to the next: version 1, 2, 3, 4."""
VERSION = len(_STEPS)

_BUSY_MS = 5000
"""How long to wait for another program that writes to the file."""
_INCREMENTAL = 2  # as `PRAGMA auto_vacuum` says it
_STEP_ROWS = 50
_STEP_PAGES = 256
"""What is deleted or moved at once: some milliseconds."""

_NUMBERED = {"alerts", "incidents", "care"}
"""Tables whose changes followers see."""

_UPSERTS = {
    "alerts": """
        INSERT INTO alerts (id, seq, born, session, session_name, rule, level, response, action,
                            time, tags, words, json, evidence)
        VALUES (:id, :seq, :seq, :session, :session_name, :rule, :level, :response, :action,
                :time, :tags, :words, :json, :evidence)
        ON CONFLICT (id) DO UPDATE SET
            seq = excluded.seq, level = excluded.level, response = excluded.response,
            action = excluded.action, words = excluded.words, json = excluded.json,
            evidence = coalesce(excluded.evidence, evidence)
        RETURNING born = seq""",
    "care": """
        UPDATE alerts SET seq = :seq, state = :state, care = :json WHERE id = :id RETURNING 0""",
    "incidents": """
        INSERT INTO incidents (id, seq, born, session, session_name, level, state, words, json,
                               evidence)
        VALUES (:id, :seq, :seq, :session, :session_name, :level, :state, :words, :json, :evidence)
        ON CONFLICT (id) DO UPDATE SET
            seq = excluded.seq, level = excluded.level, state = excluded.state,
            words = excluded.words, json = excluded.json,
            evidence = coalesce(excluded.evidence, evidence)
        RETURNING 0""",
    "grants": """
        INSERT INTO grants (id, session, json) VALUES (:id, :session, :json)
        ON CONFLICT (id) DO UPDATE SET json = excluded.json
        RETURNING 0""",
    "tokens": """
        INSERT INTO tokens (id, hash, json) VALUES (:id, :hash, :json)
        ON CONFLICT (id) DO UPDATE SET json = excluded.json
        RETURNING 0""",
    "told": """
        INSERT INTO told (id, json) VALUES (:id, :json)
        ON CONFLICT (id) DO UPDATE SET json = excluded.json
        RETURNING 0""",
    "memories": """
        INSERT INTO memories (id, session, json) VALUES (:id, :session, :json)
        ON CONFLICT (id) DO UPDATE SET json = excluded.json
        RETURNING 0""",
    "actions": """
        INSERT INTO actions (id, session, json) VALUES (:id, :session, :json)
        ON CONFLICT (id) DO UPDATE SET json = excluded.json
        RETURNING 0""",
    "sessions": """
        INSERT INTO sessions (id, name, uid, started, json)
        VALUES (:id, :name, :uid, :started, :json)
        ON CONFLICT (id) DO UPDATE SET
            name = excluded.name, uid = excluded.uid, json = excluded.json
        RETURNING 0""",
}


class Row(NamedTuple):
    """One upsert: a table of `_UPSERTS`, the row's id, and its other columns."""

    table: str
    id: str
    columns: dict[str, Any]

    def over(self, older: Row) -> Row:
        """This state of the row with the evidence that came with an older one: see `_UPSERTS`."""
        kept = older.columns.get("evidence")
        if kept is None or self.columns.get("evidence") is not None:
            return self
        return self._replace(columns={**self.columns, "evidence": kept})

    @property
    def size_bytes(self) -> int:
        """Roughly what it holds in memory while it waits."""
        parts = (self.columns.get(name) for name in ("json", "words", "evidence"))
        return sum(len(part) for part in parts if part)


class Database:
    """The writing connection. One thread at a time may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seq = 0
        self.alerts = 0
        own_directory(path.parent, PRIVATE)
        with explained(path):
            # SQLite gives its -wal and -shm files the mode of this one.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False
            )
        try:
            with explained(path):
                self._prepare()
        except StoreError:
            self._connection.close()
            raise

    def write(self, rows: Iterable[Row]) -> None:
        """Commit all rows or none; StoreError says why none."""
        seq, alerts = self.seq, self.alerts
        with explained(self.path), self._transaction():
            for row in rows:
                values = {"id": row.id, **row.columns}
                if row.table in _NUMBERED:
                    seq += 1
                    values["seq"] = seq
                written = self._connection.execute(_UPSERTS[row.table], values).fetchone()
                alerts += written[0] if written else 0
        self.seq, self.alerts = seq, alerts

    def forget(self, before: str, living: Collection[str]) -> int:
        """Delete some of what is older than this; see `aging.remove`. How many rows; 0 at the end."""
        with explained(self.path), self._transaction():
            rows, alerts = aging.remove(self._connection, before, living, _STEP_ROWS)
            if rows:
                self._connection.execute("UPDATE numbers SET seq = ?", (self.seq,))
        self.alerts -= alerts
        return rows

    def shrink(self) -> bool:
        """Give some free pages back to the file system; is there more to give?"""
        with explained(self.path):
            free = self._free_pages()
            if not free:
                return False
            # A row without columns for each page: `execute` would stop at the first.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_STEP_PAGES})")
            if left := self._free_pages():
                return left < free  # none moves in a file that `_make_shrinkable` had no room for
            # Only now do the files end sooner; if somebody reads, at a later checkpoint. Commits must
            # not wait for him.
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return False

    def _free_pages(self) -> int:
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        return int(free)

    def close(self) -> None:
        """Let go of the file. Committed rows are safe with or without this."""
        with explained(self.path):
            self._connection.close()

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # first: it is in page 1
        # WAL: readers never wait for the writer. FULL: a commit survives a power cut.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise StoreError(
                    f"{self.path} has version {version}, this estop knows {VERSION}",
                    mend="run the newer estop that wrote it, or name another --state-dir",
                )
            for step in _STEPS[version:]:
                for statement in step.split(";"):
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {VERSION}")
        self._make_shrinkable()
        (self.seq,) = self._connection.execute(
            "SELECT max(seq) FROM (SELECT coalesce(max(seq), 0) AS seq FROM alerts"
            " UNION ALL SELECT coalesce(max(seq), 0) FROM incidents"
            " UNION ALL SELECT seq FROM numbers)"
        ).fetchone()
        (self.alerts,) = self._connection.execute("SELECT count(*) FROM alerts").fetchone()

    def _make_shrinkable(self) -> None:
        """A file from before version 3 is written anew once; where there is no room, another time."""
        (mode,) = self._connection.execute("PRAGMA auto_vacuum").fetchone()
        if mode != _INCREMENTAL:
            with contextlib.suppress(sqlite3.OperationalError):
                self._connection.execute("VACUUM")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled it back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can only read, for one query; opening one costs about 0.1 ms."""
    with (
        explained(path),
        contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as opened,
    ):
        yield opened


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the kernel say into a StoreError that names the file and the mend."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot open {path}: {error.strerror}", mend=_mend(error.errno, path)
        ) from error
    except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError):
        raise  # a fault of ours, not of the disk: trying again would not help
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and _no_space(path)):
            raise StoreError(
                f"no space left on {path}", mend=f"free space on the disk of {path.parent}"
            ) from error
        raise StoreError(f"{path}: {error}", mend=_mends(name, path)) from error
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"{path} holds a row that this estop cannot read: {error}",
            mend="run the estop version that wrote it",
        ) from error


def _no_space(path: Path) -> bool:
    found = os.statvfs(path.parent)
    return found.f_bavail == 0 or (found.f_files > 0 and found.f_favail == 0)


def _mend(number: int | None, path: Path) -> str:
    if number == errno.ENOSPC:
        return f"free space on the disk of {path.parent}"
    return f"make {path} readable and writable for uid {os.geteuid()}"


def _mends(name: str, path: Path) -> str:
    if name in {"SQLITE_NOTADB", "SQLITE_CORRUPT"}:
        return f"move {path} away (it is kept as evidence) and start again"
    return f"check the disk and the permissions of {path.parent}"
