# SPDX-License-Identifier: Apache-2.0
"""What the kill-switch is pointed at where it is no session."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from monitor.subjects import State


@dataclass
class Aim:
    """What the kill-switch is pointed at."""

    id: str
    slot: int
    cgroup: Path
    state: State = State.RUNNING
    cgroup_id: int = 0

    def __post_init__(self) -> None:
        with suppress(OSError):
            self.cgroup_id = self.cgroup.stat().st_ino
