# SPDX-License-Identifier: Apache-2.0
"""Speaks to the daemon's API over its unix socket; it must not print.

Its errors are the daemon's own words, or say plainly that no daemon answers.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import httpx_sse
import msgspec

from monitor.alerts import Alert
from monitor.errors import EstopError

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

_ANSWER_S = 15.0
_ACT_S = 90.0  # a freeze may use its whole deadline, which settings allow to be a minute
_SILENCE_S = 60.0  # the stream is kept alive every 15 s
_AGAIN_S = 1.0


class NotRunningError(EstopError):
    """No daemon answers on the socket."""

    exit_code = 3


class RefusedError(EstopError):
    """The daemon answered, and said no."""


def not_running(path: Path, reason: str) -> NotRunningError:
    """The one line for a daemon that is not there."""
    return NotRunningError(
        f"no daemon answers on {path} ({reason})",
        mend="start it with `sudo estop daemon`, or name its --runtime-dir",
    )


def require_daemon(path: Path) -> None:
    """Raise NotRunningError now rather than half way through something."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_S)
        try:
            probe.connect(str(path))
        except OSError as error:
            raise not_running(path, error.strerror or str(error)) from error


class Client:
    """One connection to one daemon; use it in a `with`."""

    def __init__(self, runtime_dir: Path) -> None:
        self._path = runtime_dir.absolute() / "estop.sock"
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self._path)),
            base_url="http://localhost/api/v1",
            timeout=_ANSWER_S,
        )

    def __enter__(self) -> Self:
        """Say at once, and in one line, if no daemon answers."""
        require_daemon(self._path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hang up."""
        self._http.close()

    def get(self, path: str, type_: type[T], **parameters: str | int | None) -> T:
        """Ask for something of `type_`."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._ask("GET", path, type_, params=given)

    def post(self, path: str, type_: type[T], body: object) -> T:
        """Have something done."""
        content = msgspec.json.encode(body)
        return self._ask("POST", path, type_, content=content, timeout=_ACT_S)

    def delete(self, path: str, type_: type[T]) -> T:
        """Take something back."""
        return self._ask("DELETE", path, type_, timeout=_ACT_S)

    def download(self, path: str, to: Path) -> None:
        """Write the answer to a new file; EstopError if there is one already."""
        response = self._http.get(path, timeout=_ACT_S)
        if response.is_error:
            _refuse(response)
        try:
            with to.open("xb") as file:
                file.write(response.content)
        except OSError as error:
            raise EstopError(
                f"cannot write {to}: {error.strerror}", mend="name another file"
            ) from error

    def path_of(self, session: str) -> str:
        """The path of a session by id or name."""
        return "/sessions/" + quote(session, safe="", errors="backslashreplace")

    def follow(self, parameters: Mapping[str, str | None]) -> Iterator[Alert]:
        """Alerts from now on, for ever; a daemon that restarts is waited for, without a gap."""
        cursor = ""
        while True:
            try:
                for event in self._events(cursor, parameters):
                    cursor = event.id
                    if event.event == "alert":
                        yield msgspec.json.decode(event.data, type=Alert)
            except httpx.TransportError as error:
                _LOG.warning("the daemon is gone (%s): waiting for it", error)
            time.sleep(_AGAIN_S)

    def lines(self, path: str) -> Iterator[bytes]:
        """A stream of lines, until its end."""
        try:
            with self._http.stream("GET", path, timeout=None) as response:
                if response.is_error:
                    response.read()
                    _refuse(response)
                for line in response.iter_lines():
                    yield line.encode("utf-8", "surrogatepass")
        except httpx.TransportError as error:
            raise EstopError(f"the daemon is gone: {error}", mend="see its log") from error

    def _events(
        self, cursor: str, parameters: Mapping[str, str | None]
    ) -> Iterator[httpx_sse.ServerSentEvent]:
        headers = {"Last-Event-ID": cursor} if cursor else {}
        given = {name: value for name, value in parameters.items() if value is not None}
        with httpx_sse.connect_sse(
            self._http,
            "GET",
            "/alerts/stream",
            params=given,
            headers=headers,
            timeout=_SILENCE_S,
        ) as source:
            if source.response.is_error:
                source.response.read()
                _refuse(source.response)
            yield from source.iter_sse()

    def _ask(self, method: str, path: str, type_: type[T], **request: Any) -> T:  # noqa: ANN401
        try:
            response = self._http.request(method, path, **request)
        except httpx.ConnectError as error:
            raise not_running(self._path, str(error)) from error
        except httpx.TransportError as error:
            raise EstopError(
                f"the daemon on {self._path} did not answer: {error or type(error).__name__}",
                mend="see its log",
            ) from error
        if response.is_error:
            _refuse(response)
        return msgspec.json.decode(response.content, type=type_)


def _refuse(response: httpx.Response) -> None:
    try:
        found = response.json()
        detail, mend = str(found["detail"]), str(found["mend"])
    except (ValueError, KeyError, TypeError):
        detail, mend = f"the daemon answered with status {response.status_code}", "see its log"
    raise RefusedError(detail, mend=mend)
