# SPDX-License-Identifier: Apache-2.0
"""A monitor of one's own for a demo or a test: started, waited for, and ended by SIGTERM.

It must not disturb another monitor of this machine: every directory it uses is given.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent.client import MonitorError, ask

ESTOP = Path(sys.executable).with_name("estop")
_START_S = 900.0  # compiling the sensors takes a second here, and minutes in an emulated guest
_STOP_S = 30.0
_LOOK_S = 0.05
_LOG_LINES = 15


class StartError(Exception):
    """The monitor ended or stayed silent; the message carries the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Monitor:
    """A running monitor, asked over its socket."""

    runtime_dir: Path
    log: Path | None = None
    pid: int = 0

    @property
    def socket(self) -> str:
        """Where it listens."""
        return str(self.runtime_dir / "estop.sock")

    def get(self, target: str) -> Any:  # noqa: ANN401 - JSON
        """`GET /api/v1` + `target`."""
        return ask(self.socket, "GET", f"/api/v1{target}")

    def health(self) -> dict[str, Any]:
        """The monitor's own account of itself; MonitorError if it is not there."""
        found: dict[str, Any] = self.get("/health")
        return found

    def session(self, name: str) -> dict[str, Any]:
        """The session of this name or id."""
        found: dict[str, Any] = self.get(f"/sessions/{quote(name)}")
        return found

    def alerts(self, session: str) -> list[dict[str, Any]]:
        """The session's alerts, newest first."""
        found: list[dict[str, Any]] = self.get(f"/alerts?session={quote(session)}")["items"]
        return found

    def act(self, session: str, verb: str, why: str) -> dict[str, Any]:
        """`freeze`, `resume` or `kill` the session."""
        target = f"/api/v1/sessions/{quote(session)}/{verb}"
        record: dict[str, Any] = ask(self.socket, "POST", target, {"why": why})
        return record

    def run_command(self, name: str, *options: str) -> list[str]:
        """The words before the agent's own command line."""
        place = ["--runtime-dir", str(self.runtime_dir)]
        return [str(ESTOP), "run", *place, "--name", name, *options, "--"]


@contextmanager
def private_monitor(
    scratch: Path,
    *options: str,
    state_dir: Path | None = None,
    runtime_dir: Path | None = None,
    environ: dict[str, str] | None = None,
    keep: bool = False,
) -> Iterator[Monitor]:
    """`estop daemon OPTIONS` with its log, and what is not named otherwise, below `scratch`.

    With `keep`, what it leaves in the kernel for living sessions stays, for the next one.
    """
    state_dir, runtime_dir = state_dir or scratch / "state", runtime_dir or scratch / "run"
    places = ["--state-dir", str(state_dir), "--runtime-dir", str(runtime_dir)]
    with (scratch / "monitor.log").open("ab") as log:
        # A session of its own: the terminal's Ctrl-C is for the agent, not for its monitor.
        process = subprocess.Popen(
            [ESTOP, "daemon", *places, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environ,
        )
    monitor = Monitor(runtime_dir, scratch / "monitor.log", process.pid)
    try:
        _await_health(monitor, process)
        yield monitor
    finally:
        try:
            _end(process)
        finally:
            if not keep:
                unpin(runtime_dir / "bpf")


def until(condition: Callable[[], bool], timeout_s: float, look_s: float = _LOOK_S) -> bool:
    """Wait for `condition`; false if it did not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(look_s)
    return True


def _await_health(monitor: Monitor, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            monitor.health()
        except MonitorError as error:
            if process.poll() is not None:
                ended = f"the monitor ended with {process.returncode}"
                raise StartError(f"{ended}:\n{tail(monitor)}") from error
            if time.monotonic() > deadline:
                raise StartError(f"the monitor is silent:\n{tail(monitor)}") from error
        else:
            return
        time.sleep(_LOOK_S)


def tail(monitor: Monitor, lines: int = _LOG_LINES) -> str:
    """The end of its log."""
    if monitor.log is None:
        return ""
    text = monitor.log.read_text("utf-8", "replace")
    return "\n".join(text.splitlines()[-lines:])


def unpin(pins: Path) -> None:
    """Take away what a monitor left in the kernel: with its file system go the pins."""
    if pins.is_mount():
        subprocess.run(["umount", pins], check=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, so that it takes its sensors and empty cgroups with it."""
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
