# SPDX-License-Identifier: Apache-2.0
"""Tells the person at the agent's terminal that the session was stopped; it must not act on it."""

from __future__ import annotations

import os
import threading
from typing import Any
from urllib.parse import quote

from agent.client import MonitorError, ask
from agent.text import tell

_POLL_S = 1.0
_STOPPED = {"frozen", "killed", "lost"}
_ACTIONS = {"frozen": {"frozen", "stopping"}, "killed": {"killed", "stopping"}}
"""State -> what an alert says that it did, if it is the one that brought the session there."""


class Notice:
    """Asks for the session's state once a second; prints one line when it turns for the worse."""

    def __init__(self, socket: str, session: dict[str, Any], *, poll_s: float = _POLL_S) -> None:
        self._socket = socket
        self._id = str(session["id"])
        self._name = str(session.get("name") or self._id)
        self._poll_s = poll_s
        self._done = threading.Event()
        self._state = "running"
        self._thread = threading.Thread(target=self._poll, name="notice", daemon=True)

    def start(self) -> None:
        """Begin to watch, in a thread: the main one waits for the child."""
        self._thread.start()

    def finish(self) -> None:
        """Look a last time: a session that was killed ends before the next poll."""
        self._done.set()
        self._thread.join()
        self._look()

    def _poll(self) -> None:
        while not self._done.wait(self._poll_s):
            self._look()

    def _look(self) -> None:
        try:
            state = str(ask(self._socket, "GET", f"/api/v1/sessions/{quote(self._id)}")["state"])
            news = state != self._state and state in _STOPPED
            line = self._line(state) if news else ""
        except MonitorError as error:
            state = "unknown"
            line = f"the monitor of session {self._name} is gone: {error}; {error.mend}"
            if self._state == state:
                return
        self._state = state
        if line:
            tell(line, amid_output=True)

    def _line(self, state: str) -> str:
        told = f"session {self._name} was {state}{self._why(state)}"
        if state != "frozen":
            return told
        hint = " (Ctrl-Z gives this terminal back)" if os.isatty(0) else ""
        return f"{told}. `estop resume {self._id}` or `estop kill {self._id}`{hint}"

    def _why(self, state: str) -> str:
        """The title of the rule; a person may have stopped it without any."""
        alerts = ask(self._socket, "GET", f"/api/v1/alerts?session={quote(self._id)}&limit=20")
        actions = _ACTIONS.get(state, set())
        found = [a["rule"]["title"] for a in alerts["items"] if a["outcome"]["action"] in actions]
        return f": {found[0]}" if found else " on request"
