# SPDX-License-Identifier: Apache-2.0
"""Starts an agent on a stage of its own (`agent.stage`), and sees to it that nothing of it is left."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from agent import stage
from agent.client import MonitorError
from agent.private_monitor import Monitor

_ENDS_S = 60.0


@contextmanager
def on_stage(
    monitor: Monitor,
    name: str,
    command: Sequence[str],
    *,
    binds: Mapping[str, str],
    home: Path,
    environ: Mapping[str, str] | Mapping[bytes, bytes],
    log: Path,
) -> Iterator[subprocess.Popen[bytes]]:
    """`command`, which starts the session `name`, in `home`; `binds` as `agent.stage` has them."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            stage.command(dict(binds), list(command)),
            cwd=home,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(MonitorError):  # never adopted, or ended before
            monitor.act(name, "kill", "the test is over")
        process.terminate()
        process.wait(_ENDS_S)
