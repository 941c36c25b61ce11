# SPDX-License-Identifier: Apache-2.0
"""`make run AGENT=...`: the user's own agent under the machine's monitor, started if none runs.

It must not stand between the agent and its terminal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from agent.client import MonitorError
from agent.private_monitor import Monitor, private_monitor
from agent.report import alert_table

_RUNTIME_DIR, _STATE_DIR = Path("/run/estop"), Path("/var/lib/estop")


def supervise(console: Console, words: Sequence[str]) -> int:
    """Run `words` to their end; their exit code."""
    monitor = Monitor(_RUNTIME_DIR)
    try:
        monitor.health()
    except MonitorError:
        with tempfile.TemporaryDirectory(prefix="estop-run-") as scratch:
            console.print("starting the monitor")
            with private_monitor(
                Path(scratch), state_dir=_STATE_DIR, runtime_dir=_RUNTIME_DIR
            ) as started:
                return _accompany(console, started, words)
    return _accompany(console, monitor, words)


def _accompany(console: Console, monitor: Monitor, words: Sequence[str]) -> int:
    name = f"{Path(words[0]).name}-{os.getpid()}"
    console.print(f"session {name}: `estop sessions`, `estop freeze {name}` from another terminal")
    # A handler, not SIG_IGN: that one would be inherited, and Ctrl-C would not reach the agent.
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    code = subprocess.run([*monitor.run_command(name), *words], check=False).returncode
    alerts = monitor.alerts(name)
    console.print(
        alert_table(name, alerts) if alerts else f"no alerts; the agent ended with {code}"
    )
    return code if code >= 0 else 128 - code
