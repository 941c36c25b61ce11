# SPDX-License-Identifier: Apache-2.0
"""A monitor's unix socket without a monitor behind it: it says yes or no, and remembers."""

from __future__ import annotations

import http.server
import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

RUN = """
import sys
from agent.launcher import run
socket, user, allow, *argv = sys.argv[1:]
sys.exit(run(socket, name="demo", argv=argv, user=user or None, mode="enforce", home=None,
             allow_new_privileges=bool(allow)))
"""
ALERTS = [
    {"rule": {"title": "A copy was written"}, "outcome": {"action": "logged"}},
    {"rule": {"title": "Hosts file edited"}, "outcome": {"action": "frozen"}},
]


class Socket:
    """Answers as the API does. `on_launch` sees each launch before it is answered."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.launches: list[dict[str, Any]] = []
        self.polls = 0
        self.state = "running"
        self.refusal: tuple[int, dict[str, str]] | None = None
        self.on_launch: Callable[[dict[str, Any]], None] = lambda _request: None

    def answer(self, method: str, target: str, body: dict[str, Any]) -> tuple[int, object]:
        if method == "POST" and target == "/api/v1/sessions":
            self.launches.append(body)
            self.on_launch(body)
            return self.refusal or (201, {"id": "01", "name": body["name"], "state": "running"})
        if target == "/api/v1/sessions/01":
            self.polls += 1
            return 200, {"id": "01", "name": "demo", "state": self.state}
        if target == "/api/v1/alerts?session=01&limit=20":
            return 200, {"items": ALERTS, "next": None}
        return 404, {"detail": f"no {method} {target}"}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture(autouse=True)
def _not_behind_sudo(monkeypatch):
    """Else the launcher would give the command to whoever called `sudo make test`."""
    for name in ("SUDO_USER", "SUDO_UID", "SUDO_GID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Socket]:
    socket = Socket(tmp_path / "control.sock")

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle(self) -> None:
            try:
                super().handle()
            except (BrokenPipeError, ConnectionResetError):  # the launcher was killed: see tests
                return

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, answer = socket.answer(self.command, self.path, body)
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_POST = do_GET  # noqa: N815 - the library calls it so

        def log_message(self, *args: object) -> None:
            return

    with _Server(socket.path, Handler) as server:
        Path(socket.path).chmod(0o777)  # launched commands may belong to nobody
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield socket
        server.shutdown()
        thread.join()


@pytest.fixture
def command(monitor: Socket) -> Callable[..., list[str]]:
    """The argument list of `estop run` for some words, without the command line parser."""

    def build(*words: str, user: str = "", allow: bool = False) -> list[str]:
        return [sys.executable, "-c", RUN, monitor.path, user, "yes" if allow else "", *words]

    return build


@pytest.fixture
def launch(command) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command under the launcher to its end."""

    def run(
        *words: str,
        user: str = "",
        allow: bool = False,
        before: tuple[str, ...] = (),
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, *command(*words, user=user, allow=allow)],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
            **options,
        )

    return run
