# SPDX-License-Identifier: Apache-2.0
"""Stops that have to hold each time: armed rings, queued bytes, and a monitor that is killed."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agent.private_monitor import ESTOP, Monitor, private_monitor, until
from tests.bench.figures import LOADS, Figures, compiled, monitored
from tests.bench.latency import EDITOR, WAYS

TIMES = 20
ARMED_MS = 250
AFTER_S = 0.5
URING = Path(__file__).parents[1] / "kernel" / "programs" / "uring.c"
_WAIT_S = 30.0


def measure_leaks(scratch: Path, figures: Figures) -> None:
    """bytes out after the verdict: an armed ring, an armed SQPOLL ring, a full socket"""
    compiled(scratch, URING)
    (scratch / "secret").write_bytes(b"0123456789abcdef")
    with monitored(scratch, disarm_stops="1000") as monitor:  # not a rule that misfires
        for case in ("plain", "sqpoll", "queued"):
            nothing = [_leaked(monitor, scratch, case, n) == 0 for n in range(TIMES)]
            figures[f"nothing_out ({case})"] = {"value": f"{sum(nothing)} of {TIMES}"}


def _leaked(monitor: Monitor, scratch: Path, case: str, number: int) -> int:
    """Bytes that reached a server after the session of one agent was stopped."""
    name = f"{case}-{number}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        words = ["leak", case, port, str(scratch / "secret"), str(scratch / "uring"), str(ARMED_MS)]
        with _attached(monitor, name, words) as agent:
            assert agent.stdin is not None
            agent.stdin.write("go\n")
            agent.stdin.flush()
            assert until(lambda: monitor.session(name)["state"] == "frozen", _WAIT_S)
            return _arrives(server, already=case == "queued")


@contextmanager
def _attached(monitor: Monitor, name: str, words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """An agent that was there before: what we launch has no io_uring to begin with."""
    stage = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    hosts = monitor.runtime_dir.parent / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    command = [*stage, script, str(hosts), sys.executable, str(LOADS), *words]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "ready\n"
        place = ["--runtime-dir", str(monitor.runtime_dir), "--name", name]
        subprocess.run(
            [ESTOP, "attach", *place, "--pid", str(agent.pid)], check=True, capture_output=True
        )
        try:
            yield agent
        finally:
            monitor.act(name, "kill", "the bench is over")


def _arrives(server: socket.socket, *, already: bool) -> int:
    """Bytes that still come; what lies in the receiver's buffer had left before."""
    server.settimeout(AFTER_S)
    try:
        client, _ = server.accept()
    except TimeoutError:
        return 0
    with client:
        client.settimeout(AFTER_S)
        if already:
            client.settimeout(0)
            with suppress(BlockingIOError):
                while client.recv(1 << 20):
                    pass
            client.settimeout(AFTER_S)
        try:
            return len(client.recv(1 << 20))
        except (TimeoutError, ConnectionResetError):
            return 0


def measure_kills(scratch: Path, figures: Figures) -> None:
    """kill -9 of the monitor around an attack: held, and told after the restart"""
    good = 0
    with private_monitor(scratch, "--listen", "", keep=True) as monitor:
        agent = _victim(monitor, scratch)
        known = _attack_and_kill(monitor, agent, first=True)
    for number in range(1, TIMES + 1):
        last = number == TIMES
        with private_monitor(scratch, "--listen", "", keep=not last) as monitor:
            good += until(lambda m=monitor, k=known: _is_told(m, k), _WAIT_S)
            monitor.act("killed", "resume", "again")
            assert agent.stdout is not None
            agent.stdout.readline()
            if last:
                monitor.act("killed", "kill", "the bench is over")
            else:
                known = _attack_and_kill(monitor, agent, first=bool(number % 2))
    agent.communicate(timeout=_WAIT_S)
    figures["held_and_told_after_kill"] = {"value": f"{good} of {TIMES}"}


def _victim(monitor: Monitor, scratch: Path) -> subprocess.Popen[str]:
    """An agent that edits a hosts file of its own at every word."""
    hosts = scratch / "killed-hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    words = ["sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]
    stage = ["unshare", "--mount", "--propagation", "private", *words]
    command = [*monitor.run_command("killed"), str(compiled(scratch, EDITOR))]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    agent = subprocess.Popen([*stage, *command], **pipes)
    assert agent.stdout is not None
    assert agent.stdout.readline() == "ready\n"
    return agent


def _edits(monitor: Monitor) -> int:
    """Acts that the monitor told of."""
    return len(
        {
            a["event"]["ktime_ns"]
            for a in monitor.alerts("killed")
            if "file" in a["event"]["category"]
        }
    )


def _is_told(monitor: Monitor, known: int) -> bool:
    return monitor.session("killed")["state"] == "frozen" and _edits(monitor) == known + 1


def _attack_and_kill(monitor: Monitor, agent: subprocess.Popen[str], *, first: bool) -> int:
    """One after the other, in either order, at most a millisecond apart; what was told before."""
    known = _edits(monitor)
    assert agent.stdin is not None
    if first:
        os.kill(monitor.pid, signal.SIGKILL)
    agent.stdin.write(f"{WAYS['in place']}\n")
    agent.stdin.flush()
    if not first:
        time.sleep(random.uniform(0, 0.001))
        os.kill(monitor.pid, signal.SIGKILL)
    return known
