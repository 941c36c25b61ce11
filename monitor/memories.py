# SPDX-License-Identifier: Apache-2.0
"""What later events of a session are judged by, kept for the monitor that comes after this one.

Programs, maps and cgroups outlive a monitor by themselves; what it learned from events does not. Which
processes have touched a secret is recorded within half a second, and at once where a rule says so:
what was read before a restart must not leave after it. What was written, downloaded and done before
follows every ten seconds, and at the end. Windows of correlations begin anew.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from monitor.record.store import Store
from monitor.sessions.live import LiveSession
from monitor.subjects import Done, Labelled

_DONE_S = 10.0


class Memories:
    """Of all sessions; any thread may call it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._labelled: dict[str, int] = {}
        """Session id -> what its `taint_changes` said when they were recorded last; the same below."""
        self._done: dict[str, int] = {}
        self._due: dict[str, float] = {}

    def keep(self, live: LiveSession, *, all_of_it: bool = False) -> None:
        """Record what is new and due; `all_of_it`, whatever is new."""
        # The pipeline changes it meanwhile: what cannot be read in one piece is read the next time.
        with self._lock, suppress(RuntimeError):
            if live.ended:
                return  # it was forgotten, or will be
            self._keep_labels(live)
            if all_of_it or time.monotonic() >= self._due.get(live.id, 0.0):
                self._keep_done(live)

    def _keep_done(self, live: LiveSession) -> None:
        changes = live.changes
        if changes != self._done.get(live.id):
            self._store.save_memory(live.id, live.done())
            self._done[live.id] = changes
            self._due[live.id] = time.monotonic() + _DONE_S

    def keep_labels(self, live: LiveSession) -> None:
        """Something touched a secret just now."""
        with self._lock:
            if not live.ended:  # its last events may come after that
                self._keep_labels(live)

    def _keep_labels(self, live: LiveSession) -> None:
        changes = live.tree.taint_changes
        if changes != self._labelled.get(live.id, 0):
            self._store.save_memory(live.id, live.tree.labelled())
            self._labelled[live.id] = changes

    def home(self, session: str) -> str:
        """The agent's own directory, if the user named one when the session (by id) began."""
        done = self._store.memory(session, Done)
        return done.home if done else ""

    def recall(self, live: LiveSession) -> None:
        """Tell a session that was taken over what an earlier monitor knew of it."""
        labelled = self._store.memory(live.id, Labelled)
        if labelled is not None:
            live.tree.recall(labelled)
        done = self._store.memory(live.id, Done)
        if done is not None:
            live.recall(done)
            live.user_home = live.user_home or done.user_home

    def forget(self, live: LiveSession) -> None:
        """The session is over: what is left of it is its story."""
        with self._lock:
            for known in (self._labelled, self._done, self._due):
                known.pop(live.id, None)
            for nothing in (Labelled(), Done()):
                self._store.save_memory(live.id, nothing)
