# SPDX-License-Identifier: Apache-2.0
"""What is measured, what it should be, and a monitor to measure it with."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.private_monitor import Monitor, private_monitor

LOADS = Path(__file__).with_name("loads.py")

Figures = dict[str, dict[str, Any]]

AT_MOST = {
    ("held_us", "p99"): 60,
    ("verdict_us", "p99"): 300,
    ("frozen_us", "p50"): 250,
    ("frozen_us", "p99"): 1000,
    ("frozen_beside_build_us", "p99"): 5000,
    ("crowd_frozen_worst_ms", "value"): 100,
    ("crowd_lost", "value"): 0,
    ("loop_outside_ratio", "value"): 1.20,
    ("loop_inside_ratio", "value"): 1.50,
    ("loop_beside_ratio", "value"): 1.20,
    ("loop_inside_lsm_ratio", "value"): 1.50,
    ("loop_outside_lsm_ratio", "value"): 1.02,
    ("build_inside_ratio", "value"): 1.05,
}
"""(figure, part) -> what it should not exceed, on an idle machine."""

AT_LEAST = {
    ("rules_mix_per_s", "value"): 250_000,
    ("rules_exec_per_s", "value"): 100_000,
}
"""The same for what it should reach."""


@contextmanager
def monitored(scratch: Path, **settings: str) -> Iterator[Monitor]:
    """A monitor of our own."""
    environ = os.environ | {f"ESTOP_{name.upper()}": value for name, value in settings.items()}
    with private_monitor(scratch, "--listen", "", environ=environ) as monitor:
        yield monitor


def load(*words: str, inside: Monitor | None = None) -> float:
    """Run one of `loads.py`, in or out of a session; the number it prints."""
    return timed([sys.executable, str(LOADS), *words], inside=inside)


def timed(command: list[str], *, inside: Monitor | None = None) -> float:
    """Run a command, in or out of a session; the number it prints."""
    if inside is not None:
        command = [*inside.run_command("bench"), *command]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def compiled(scratch: Path, source: Path) -> Path:
    """The program of a C source, in `scratch`."""
    program = scratch / source.stem
    if not program.exists():
        subprocess.run(["cc", "-O1", "-Wall", "-static", "-o", program, source], check=True)
    return program


def percentiles(values: list[float]) -> dict[str, Any]:
    """p50 and p99 in us, and of how many."""
    cuts = statistics.quantiles(values, n=100)
    return {"unit": "us", "n": len(values), "p50": round(cuts[49]), "p99": round(cuts[98])}


def misses(figures: Figures) -> list[str]:
    """Figures that are above what they should be."""
    above = [
        f"{name} {part} is {figures[name][part]}, should be at most {limit}"
        for (name, part), limit in AT_MOST.items()
        if name in figures and figures[name].get(part, 0) > limit
    ]
    below = [
        f"{name} is {figures[name][part]}, should be at least {limit}"
        for (name, part), limit in AT_LEAST.items()
        if name in figures and figures[name][part] < limit
    ]
    return above + below
