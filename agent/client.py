# SPDX-License-Identifier: Apache-2.0
"""Asks the monitor over its unix socket; it must not know what the answers mean."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

_TIMEOUT_S = 30.0  # a dead monitor refuses at once; a launch has a limit of its own


class MonitorError(Exception):
    """The monitor is away or said no. `str(error)` says why; `mend` what to do about it."""

    def __init__(self, message: str, *, mend: str = "", status: int = 0) -> None:
        """`status` is the HTTP status of a refusal, 0 where there was no answer."""
        super().__init__(message)
        self.mend = mend
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over AF_UNIX, which the standard library lacks."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Connect to the socket's path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(self._path)


def ask(
    path: str,
    method: str,
    target: str,
    body: dict[str, Any] | None = None,
    *,
    timeout_s: float = _TIMEOUT_S,
) -> Any:  # noqa: ANN401 - JSON is whatever the monitor says
    """One request to the monitor's socket at `path`, one decoded answer, or a MonitorError."""
    connection = _UnixConnection(path, timeout_s)
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, target, payload, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read() or b"null")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MonitorError(
            f"no monitor answers at {path}: {error}", mend="start it with `estop daemon`"
        ) from error
    finally:
        connection.close()
    if response.status >= http.client.BAD_REQUEST:
        raise _refusal(response.status, answer)
    return answer


def _refusal(status: int, answer: object) -> MonitorError:
    """The monitor's own words, or the status where it sent none we know."""
    problem = answer if isinstance(answer, dict) else {}
    message = problem.get("detail") or f"HTTP status {status}"
    return MonitorError(str(message), mend=str(problem.get("mend") or ""), status=status)
