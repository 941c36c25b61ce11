# SPDX-License-Identifier: Apache-2.0
"""Takes from the record what is older than `keep_days`, now and then, on a thread of its own.

In small steps, so that an alert that comes meanwhile waits for one of them at most.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Collection

from monitor.errors import StoreError
from monitor.record.store import Store

_LOG = logging.getLogger(__name__)

_ROUND_S = 3600.0
_END_S = 5.0
_PAUSE_S = 0.02
"""Between two steps, for whoever waits for the disk."""


class Keeper:
    """Looks at once, and then every hour until it is closed; never, where `keep_days` is 0."""

    def __init__(
        self,
        store: Store,
        *,
        keep_days: int,
        living: Callable[[], Collection[str]],
        every_s: float = _ROUND_S,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._store = store
        self._keep_s = keep_days * 86_400
        self._living = living
        self._every_s = every_s
        self._wall = wall
        self._steady = steady
        self._ahead_s = wall() - steady()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        if keep_days:
            self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            # A step that hangs in the kernel (dead NFS) must not keep the daemon from ending.
            self._thread.join(_END_S)

    def _run(self) -> None:
        while True:
            try:
                self._round()
            except StoreError as error:  # the next round tries again
                _LOG.warning("the record keeps what is old: %s (mend: %s)", error, error.mend)
            if self._stop.wait(self._every_s):
                return

    def _round(self) -> None:
        before, removed = self._before(), 0
        while step := self._store.forget(before, self._living()):
            removed += step
            if self._stop.wait(_PAUSE_S):
                return
        if removed:
            _LOG.info("%d rows from before %s were removed from the record", removed, before)
        while self._store.shrink() and not self._stop.wait(_PAUSE_S):
            pass

    def _before(self) -> str:
        # A clock that somebody sets forward must not empty the record while we run.
        now = min(self._wall(), self._steady() + self._ahead_s)
        oldest = dt.datetime.fromtimestamp(max(0.0, now - self._keep_s), dt.UTC)
        return oldest.isoformat(timespec="milliseconds")
