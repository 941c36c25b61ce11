# SPDX-License-Identifier: Apache-2.0
"""Tells every target of every incident, in its own time. The record is the queue.

Each target has a cursor in the record and a thread: a commit wakes it, it reads what is new, tells
it, and only then moves the cursor. So nothing is lost by a restart or a dead mail server, a slow
target delays no other, and what piled up is told as one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec
import structlog

from monitor.incidents import Incident
from monitor.metrics import Metrics
from monitor.notify.notices import Notice, Told, notice_of, remember
from monitor.notify.targets import DeliveryError, Target
from monitor.record.decode import from_json
from monitor.record.store import Store

_log = structlog.get_logger()

_PAGE = 200
_SPACING_S = 2.0
"""Between two deliveries to one target: a storm of stops becomes few messages."""
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 600.0
_END_S = 5.0
_TOLD = msgspec.json.Decoder(Told)
_HANDED_ON = -1
"""The cursor under a name of earlier versions, once those it stood for have their own."""


class Notifier:
    """One for the monitor. Close it before the store."""

    def __init__(
        self,
        store: Store,
        targets: Sequence[Target],
        metrics: Metrics,
        *,
        console_url: str = "",
        spacing_s: float = _SPACING_S,
    ) -> None:
        self._store = store
        self._lines = [_Line(store, t, metrics, console_url, spacing_s) for t in targets]
        for former in {line.target.former for line in self._lines if line.inherited}:
            store.save_told(former, Told(seq=_HANDED_ON))
        metrics.notices_waiting.set_function(lambda: sum(line.waiting for line in self._lines))
        store.subscribe(self._committed)
        for line in self._lines:
            line.start()

    def problems(self) -> list[str]:
        """Targets that cannot be reached, for `health`."""
        return [
            f"{line.waiting} notices for {line.target.name} wait: {line.trouble}"
            for line in self._lines
            if line.trouble
        ]

    def close(self) -> None:
        """What was not told yet is told after the next start."""
        self._store.unsubscribe(self._committed)
        for line in self._lines:
            line.stop()

    def _committed(self, _seq: int) -> None:
        for line in self._lines:
            line.wake.set()


class _Line:
    """One target, its cursor and its thread."""

    def __init__(
        self, store: Store, target: Target, metrics: Metrics, console_url: str, spacing_s: float
    ) -> None:
        self.target = target
        self.wake = threading.Event()
        self.trouble = ""
        self.waiting = 0
        self._store = store
        self._metrics = metrics
        self._console_url = console_url
        self._spacing_s = spacing_s
        self._stop = threading.Event()
        self.inherited = False
        self._told = self._where_it_stood()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)

    def _where_it_stood(self) -> Told:
        name, former = self.target.name, self.target.former
        if known := self._store.told_to(name):
            return _TOLD.decode(known)
        # A new target hears of what happens from now on, not of all that ever happened.
        told = Told(seq=self._store.seq)
        left = self._store.told_to(former)
        if left and (before := _TOLD.decode(left)).seq != _HANDED_ON:
            self.inherited = True
            told = before
        self._store.save_told(name, told)  # or it would be new again after the next start
        return told

    def start(self) -> None:
        """Also for what an earlier monitor did not come to tell."""
        self.wake.set()
        self._thread.start()

    def stop(self) -> None:
        """A delivery under way is not waited for without end."""
        self._stop.set()
        self.wake.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        while not self._stop.is_set():
            self.wake.wait()
            self.wake.clear()
            if self._stop.is_set():
                return
            try:
                self._tell()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next try may be better
                self._failed(error)
                self.wake.set()
                self._stop.wait(retry_s)
                retry_s = min(2 * retry_s, _LAST_RETRY_S)
            else:
                self.trouble, retry_s = "", _FIRST_RETRY_S

    def _tell(self) -> None:
        while not self._stop.is_set():
            changes = self._store.changes("incidents", {}, since=self._told.seq, limit=_PAGE)
            if not changes:
                return
            notices = [notice for _, row in changes if (notice := self._news(row)) is not None]
            self.waiting = len(notices)
            if notices:
                self.target.deliver(notices)
                self._metrics.notices.labels(self.target.name, "delivered").inc(len(notices))
            for notice in notices:
                remember(self._told, notice)
            self.waiting = 0
            self._told.seq = changes[-1][0]
            self._store.save_told(self.target.name, self._told)
            if notices:
                self._stop.wait(self._spacing_s)

    def _news(self, row: bytes) -> Notice | None:
        return notice_of(from_json(Incident, row), self._told, self._console_url)

    def _failed(self, error: Exception) -> None:
        why = str(error) if isinstance(error, DeliveryError) else repr(error)
        if why != self.trouble:
            _log.warning("notice.waits", target=self.target.name, why=why, notices=self.waiting)
        self.trouble = why
        self._metrics.notices.labels(self.target.name, "failed").inc()
