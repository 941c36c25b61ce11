# SPDX-License-Identifier: Apache-2.0
"""What a process is at, by the kernel's word."""

from __future__ import annotations

from pathlib import Path


def state_of(pid: int) -> str:
    """The letter of /proc/PID/stat."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_stopped(pid: int) -> bool:
    """Held, on its way out of a call."""
    return state_of(pid) == "T"


def asleep(pid: int) -> bool:
    """Past all signals but a kill."""
    return state_of(pid) == "D"


def ended(pid: int) -> bool:
    return state_of(pid) in {"Z", "X"}
