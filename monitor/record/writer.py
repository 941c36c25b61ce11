# SPDX-License-Identifier: Apache-2.0
"""One bounded queue and the one thread that empties it; it must never make the stop path wait.

A row that waits is replaced by a newer state of the same row, so a long disk outage costs memory
for each alert once. What does not fit is refused and counted; what was taken is tried until it is
written or the monitor ends.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable

from monitor.errors import StoreError
from monitor.metrics import Metrics
from monitor.record.database import Row

_LOG = logging.getLogger(__name__)

_BATCH_ROWS = 256
_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 2.0

Commit = Callable[[list[Row]], None]
"""Writes all rows or none; raises StoreError for none."""


class Writer:
    """The queue and its thread. Every method may be called from any thread."""

    def __init__(
        self, commit: Commit, *, metrics: Metrics, capacity_rows: int, capacity_bytes: int
    ) -> None:
        self._commit = commit
        self._metrics = metrics
        self._capacity_rows = capacity_rows
        self._capacity_bytes = capacity_bytes
        self._changed = threading.Condition()
        self._waiting: dict[tuple[str, str], Row] = {}
        self._in_commit: dict[tuple[str, str], Row] = {}
        self._bytes = 0
        self._entered: dict[tuple[str, str], int] = {}
        """Row -> its number when it was first taken, oldest first; gone once no state of it waits."""
        self._deadline: float | None = None
        self.taken = 0
        """Number of the newest row that was taken."""
        self.durable = 0
        """Every row up to this number is on disk, in that state or a newer one, or was dropped."""
        self.dropped = 0
        self.error: StoreError | None = None
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    def offer(self, row: Row) -> bool:
        """Take the row and return at once; False (and counted) if there is no room."""
        key = row.table, row.id
        with self._changed:
            replaced = self._waiting.get(key)
            row = row if replaced is None else row.over(replaced)
            grown = self._bytes + row.size_bytes - (replaced.size_bytes if replaced else 0)
            full = replaced is None and self.queued >= self._capacity_rows
            if full or grown > self._capacity_bytes or self._deadline is not None:
                self._drop()
                return False
            self._waiting[key] = row
            self._bytes = grown
            self.taken += 1
            self._entered.setdefault(key, self.taken)
            self._note()
        return True

    @property
    def queued(self) -> int:
        """Rows taken and not yet on disk."""
        return len(self._waiting) + len(self._in_commit)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the queue is empty; False if it was not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.queued, timeout_s)

    def settle(self, number: int, timeout_s: float) -> bool:
        """Wait until every row up to this number is on disk; False if it was not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.durable >= number, timeout_s)

    def close(self, timeout_s: float) -> int:
        """Take no more, write what waits, and return how many rows could not be written."""
        with self._changed:
            self._deadline = time.monotonic() + timeout_s
            self._changed.notify_all()
        # A commit that hangs in the kernel (dead NFS) must not keep the daemon from ending.
        self._thread.join(timeout_s + _LAST_RETRY_S)
        return self.queued

    def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        while batch := self._next_batch():
            if (error := self._failure(batch)) is None:
                self._finish()
                retry_s = _FIRST_RETRY_S
            elif self._put_back(error, retry_s):
                retry_s = min(retry_s * 2, _LAST_RETRY_S)
            else:
                return

    def _failure(self, batch: list[Row]) -> StoreError | None:
        """Why the batch could not be written; this thread must outlive every reason."""
        try:
            self._commit(batch)
        except StoreError as error:
            return error
        except Exception:  # noqa: BLE001 - logged and counted below
            # Our own fault in one row must not keep the others out for ever.
            if len(batch) > 1:
                return next(filter(None, (self._failure([row]) for row in batch)), None)
            _LOG.exception("a row of %s could not be written and is lost", batch[0].table)
            self._drop()
        return None

    def _drop(self) -> None:
        with self._changed:
            self.dropped += 1
        self._metrics.store_dropped.inc()

    def _next_batch(self) -> list[Row]:
        """The oldest rows; waits for some; empty when closed and done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._deadline is not None)
            oldest = list(itertools.islice(self._waiting, _BATCH_ROWS))
            self._in_commit = {key: self._waiting.pop(key) for key in oldest}
            return list(self._in_commit.values())

    def _finish(self) -> None:
        with self._changed:
            self._bytes -= sum(row.size_bytes for row in self._in_commit.values())
            for key in self._in_commit.keys() - self._waiting.keys():
                del self._entered[key]
            self._in_commit = {}
            oldest = next(iter(self._entered.values()), None)
            self.durable = self.taken if oldest is None else oldest - 1
            if self.error is not None:
                _LOG.warning("the record is written again after: %s", self.error)
            self.error = None
            self._note()

    def _put_back(self, error: StoreError, retry_s: float) -> bool:
        """Keep the batch, oldest first, and wait before the next try; False at the deadline."""
        with self._changed:
            superseded = self._in_commit.keys() & self._waiting.keys()
            self._bytes -= sum(self._in_commit[key].size_bytes for key in superseded)
            self._waiting = {**self._in_commit, **self._waiting}
            self._in_commit = {}
            if self.error is None:
                _LOG.error("the record waits in memory: %s (mend: %s)", error, error.mend)
            self.error = error
            self._note()
            closing = self._changed.wait_for(lambda: self._deadline is not None, retry_s)
            if closing:
                # wait_for no longer waits once closing, so wait for the time alone.
                self._changed.wait(_FIRST_RETRY_S)
            return self._deadline is None or time.monotonic() < self._deadline

    def _note(self) -> None:
        self._metrics.store_queue_rows.set(self.queued)
        self._changed.notify_all()
