# SPDX-License-Identifier: Apache-2.0
"""What the sensors cost ordinary work. Machines are noisy: ratios of two runs made in turn."""

from __future__ import annotations

import statistics
from pathlib import Path

from tests.bench.figures import Figures, load, monitored

PAIRS = 5
LOOP_TURNS = 100_000
BUILD_FILES = 15


def measure(scratch: Path, figures: Figures) -> None:
    """what the sensors cost a loop and a build, in and out of a session"""
    turns, files = str(LOOP_TURNS), str(BUILD_FILES)
    ratios: dict[str, list[float]] = {"loop_outside": [], "loop_inside": [], "build_inside": []}
    for _ in range(PAIRS):
        loop, build = load("loop", turns), load("build", files)
        with monitored(scratch) as monitor:
            ratios["loop_outside"].append(load("loop", turns) / loop)
            ratios["loop_inside"].append(load("loop", turns, inside=monitor) / loop)
            ratios["build_inside"].append(load("build", files, inside=monitor) / build)
    for name, found in ratios.items():
        figures[f"{name}_ratio"] = {"value": round(statistics.median(found), 3), "n": PAIRS}
