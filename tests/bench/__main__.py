# SPDX-License-Identifier: Apache-2.0
"""`make bench`: the stop, the cost of the sensors, what is lost and what leaks; and is it enough?

Prints a table and writes build/bench.json. `make bench ONLY=latency,loop` measures part of it.
Ends with 1 where a figure is above what it should be.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import cost, crowd, flood, latency, rules, stops
from tests.bench.figures import AT_LEAST, AT_MOST, Figures, misses

OUT = Path("build/bench.json")
MEASURES = {
    "rules": rules.measure,
    "start": cost.measure_start,
    "loop": cost.measure_loop,
    "build": cost.measure_build,
    "latency": latency.measure,
    "refused": latency.measure_refused,
    "busy": latency.measure_busy,
    "crowd": crowd.measure,
    "flood": flood.measure,
    "leaks": stops.measure_leaks,
    "kills": stops.measure_kills,
}


def main() -> int:
    """Measure what was asked for, or everything."""
    only = os.environ.get("ONLY", "")
    wanted = only.split(",") if only else list(MEASURES)
    figures: Figures = {}
    for name in wanted:
        print(f"bench: {MEASURES[name].__doc__}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="estop-bench-") as scratch:
            MEASURES[name](Path(scratch), figures)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=1) + "\n")
    _show(figures)
    missed = misses(figures)
    for miss in missed:
        print(f"bench: {miss}", file=sys.stderr)
    return 1 if missed else 0


def _show(figures: Figures) -> None:
    table = Table("figure", "value", "should be at most", "n")
    for name, figure in sorted(figures.items()):
        value = figure.get("value")
        shown = f"p50 {figure['p50']}, p99 {figure['p99']} us" if value is None else str(value)
        limits = [f"{part} {most}" for (of, part), most in AT_MOST.items() if of == name]
        limits += [f"at least {least}" for (of, _), least in AT_LEAST.items() if of == name]
        wanted = ", ".join(limits).replace("value ", "")
        table.add_row(name, shown, wanted, str(figure.get("n", "")))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
