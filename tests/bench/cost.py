# SPDX-License-Identifier: Apache-2.0
"""What the sensors cost ordinary work. Machines are noisy: ratios of runs made in turn.

Each turn measures without the monitor, beside it, and without it once more. Of a loop that takes
microseconds the fastest round of all counts; of a build, what the machine itself gains or loses
meanwhile is halved out of the ratio.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from agent.private_monitor import Monitor
from tests.bench.figures import Figures, compiled, load, monitored, timed

TURNS = 5
BUILD = ("build", "60")
OPENS = Path(__file__).with_name("programs") / "opens.c"

Took = dict[str, float]


def measure_loop(scratch: Path, figures: Figures) -> None:
    """what the sensors cost a loop of open and close, in and out of a session"""
    opens, file = compiled(scratch, OPENS), scratch / "opened"
    file.touch()
    fastest: Took = {}

    def run(name: str, inside: Monitor | None = None) -> None:
        took = timed([str(opens), str(file)], inside=inside)
        fastest[name] = min(took, fastest.get(name, took))

    for _ in range(TURNS):
        run("alone")
        with monitored(scratch) as monitor:
            tier = "_lsm" if monitor.health()["tier"] == "lsm" else ""
            run("outside")
            run("inside", monitor)
        run("alone")
    for name in ("outside", "inside"):
        ratio = round(fastest[name] / fastest["alone"], 3)
        figures[f"loop_{name}{tier}_ratio"] = {"value": ratio, "n": TURNS}


def measure_build(scratch: Path, figures: Figures) -> None:
    """what the sensors cost a build, in and out of a session"""
    ratios: dict[str, list[float]] = {}
    for _ in range(TURNS):
        before = _builds(None)
        with monitored(scratch) as monitor:
            beside = _builds(monitor)
        after = _builds(None)
        for name, took in beside.items():
            ratios.setdefault(name, []).append(2 * took / (before[name] + after[name]))
    for name, found in ratios.items():
        figures[f"{name}_ratio"] = {"value": round(statistics.median(found), 3), "n": TURNS}


def _builds(monitor: Monitor | None) -> Took:
    """How long each took; `inside` only where there is a session to be in."""
    return {"build_outside": load(*BUILD), "build_inside": load(*BUILD, inside=monitor)}
