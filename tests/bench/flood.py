# SPDX-License-Identifier: Apache-2.0
"""How much a session may do before something is lost."""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench.figures import Figures, load, monitored

RATES = (2_500, 5_000, 10_000, 20_000, 40_000, 80_000, 160_000)
BURST_S = 2.0


def measure(scratch: Path, figures: Figures) -> None:
    """how many events a second until one is lost"""
    with monitored(scratch) as monitor:
        best = 0.0
        for rate in RATES:
            made = load("burst", str(rate), str(BURST_S), inside=monitor)
            time.sleep(1.0)
            if sum(monitor.health()["lost"].values()):
                break
            best = max(best, made)
        figures["events_per_s"] = {"value": round(best)}
    with monitored(scratch) as monitor:
        load("burst", str(10**9), str(1.0), inside=monitor)
        time.sleep(1.0)
        lost = monitor.health()["lost"]
        figures["burst_over_budget"] = {"value": lost.pop("budget", 0)}
        figures["burst_lost"] = {"value": sum(lost.values())}
