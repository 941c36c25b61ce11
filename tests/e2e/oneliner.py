# SPDX-License-Identifier: Apache-2.0
"""An agent of one line under a private monitor, rules for what it does, and what is said of it then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil

from agent.private_monitor import ESTOP, Monitor, until

_RULE = """\
title: Scratch file written
id: 4f2a8f0e-7a39-4f6e-9a52-30a1c9a7b00{number}
status: experimental
description: For tests.
author: estop
logsource:
    product: linux
    category: file_event
detection:
    selection:
        TargetFilename|endswith: {suffix}
    condition: selection
level: high
response: {response}
"""


def write_rule(directory: Path, number: int, suffix: str, response: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / f"{number}.yml"
    path.write_text(_RULE.format(number=number, suffix=suffix, response=response))
    return path


@contextmanager
def started(monitor: Monitor, name: str, code: str, *options: str):
    """A Python agent under watch; at the end nothing of it is left."""
    command = [*monitor.run_command(name, *options), sys.executable, "-c", code]
    agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield agent
    finally:
        monitor_is_there = subprocess.run(
            [ESTOP, "kill", name, "--runtime-dir", monitor.runtime_dir],
            capture_output=True,
            check=False,
        )
        if monitor_is_there.returncode and agent.poll() is None:
            agent.kill()
        agent.wait()


def estop(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ESTOP, *map(str, words)], capture_output=True, text=True, check=False, timeout=60
    )


def touch(path: Path, after: str = "import time; time.sleep(60)") -> str:
    return f"import os; open({str(path)!r}, 'w').close(); {after}"


def kill_hard(monitor: Monitor, how: signal.Signals = signal.SIGKILL) -> None:
    os.kill(monitor.pid, how)
    assert until(lambda: psutil.Process(monitor.pid).status() == psutil.STATUS_ZOMBIE, 10)


def session_state(monitor: Monitor, name: str) -> str:
    found = [s for s in monitor.get("/sessions") if s["name"] == name]
    return found[0]["state"] if found else ""


def session_id(monitor: Monitor, name: str) -> str:
    return next(s["id"] for s in monitor.get("/sessions") if s["name"] == name)
