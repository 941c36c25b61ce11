# SPDX-License-Identifier: Apache-2.0
"""What the sensors cost ordinary work. Machines are noisy: ratios of runs made in turn.

Each turn measures without the monitor, beside it, and without it once more: what the machine itself
gains or loses meanwhile is halved out of the ratio.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from agent.private_monitor import Monitor
from tests.bench.figures import Figures, load, monitored

TURNS = 5
LOOP = ("loop", "100000")
BUILD = ("build", "60")


def measure(scratch: Path, figures: Figures) -> None:
    """what the sensors cost a loop and a build, in and out of a session"""
    ratios: dict[str, list[float]] = {}
    for _ in range(TURNS):
        before = _all(None)
        with monitored(scratch) as monitor:
            beside = _all(monitor)
        after = _all(None)
        for name, took in beside.items():
            ratios.setdefault(name, []).append(2 * took / (before[name] + after[name]))
    for name, found in ratios.items():
        figures[f"{name}_ratio"] = {"value": round(statistics.median(found), 3), "n": TURNS}


def _all(monitor: Monitor | None) -> dict[str, float]:
    """How long each took; `inside` only where there is a session to be in."""
    return {
        "loop_outside": load(*LOOP),
        "loop_inside": load(*LOOP, inside=monitor),
        "build_outside": load(*BUILD),
        "build_inside": load(*BUILD, inside=monitor),
    }
