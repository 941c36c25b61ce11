# SPDX-License-Identifier: Apache-2.0
"""A real agent under the monitor, on a stage of its own, with a model that says what it is told."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.client import MonitorError
from agent.private_monitor import Monitor, until
from tests.stage.onstage import on_stage

HERE = Path(__file__).parent
AGENT_PYTHON = HERE.parents[1] / ".venv-e2e" / "bin" / "python"
STOPS = {"frozen", "killed"}
_ACT_S = 60.0  # smolagents takes seconds to import on a busy machine


@dataclass(frozen=True, slots=True)
class Supervised:
    """A running agent and what the monitor says of it."""

    monitor: Monitor
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def session(self) -> dict[str, Any]:
        return self.monitor.session(self.name)

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def await_stop(self, timeout_s: float = _ACT_S) -> dict[str, Any]:
        """The alert that stopped it, once the stop is complete."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            with suppress(MonitorError):  # not adopted yet
                alerts = self.monitor.alerts(self.name)
                found[:] = [alert for alert in alerts if alert["outcome"]["action"] in STOPS]
            return bool(found) or self.process.poll() is not None

        until(look, timeout_s)
        assert found, f"nobody stopped it:\n{self.output}\n{self.monitor.alerts(self.name)}"
        return found[-1]

    def await_end(self) -> int:
        return self.process.wait(_ACT_S)

    def cgroup_file(self, name: str) -> str:
        return (Path(self.session["cgroup"]) / name).read_text()


def smol(place: Path, kind: str) -> list[str]:
    """The command line of a smolagents agent (see smol_agent.py for its kinds)."""
    return [str(AGENT_PYTHON), str(place / "agent" / "agent.py"), kind, str(place / "home")]


@contextmanager
def supervised(
    monitor: Monitor,
    place: Path,
    user: pwd.struct_passwd,
    command: Sequence[str],
    turns: Sequence[dict[str, Any]],
) -> Iterator[Supervised]:
    """Run an agent whose model says `turns`; at the end nothing of it is left."""
    name = place.name
    script, log, home = place / "script.json", place / "output.log", place / "home"
    script.write_text(json.dumps(turns))
    words = [sys.executable, "-P", str(HERE / "model_server.py"), str(script), "--"]
    words += monitor.run_command(name, "--user", user.pw_name, "--home", str(place / "agent"))
    words += command
    binds = {str(place / "etc"): "/etc"}
    environ = {**os.environ, "HOME": str(home), "COLUMNS": "200"}
    with on_stage(
        monitor, name, words, binds=binds, home=home, environ=environ, log=log
    ) as process:
        yield Supervised(monitor, name, process, log)
