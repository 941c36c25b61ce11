# SPDX-License-Identifier: Apache-2.0
"""`make bench`: latency of the stop, cost of the sensors, events until one is lost, size and start.

Prints a table and writes build/bench.json. Machines are noisy: what can be is a ratio of two runs
made in turn, and the median of the pairs is what counts.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from agent.private_monitor import Monitor, private_monitor

LOADS = Path(__file__).with_name("loads.py")
OUT = Path("build/bench.json")
TRIES = 200
PAIRS = 5
LOOP_TURNS = 100_000
BUILD_FILES = 15
RATES = (2_500, 5_000, 10_000, 20_000, 40_000, 80_000, 160_000)
BURST_S = 2.0
QUIET_S = 0.03

WAYS = ("in place", "rename", "symlink", "hard link", "/proc/self/root")

Figures = dict[str, dict[str, Any]]


def main() -> None:
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="estop-bench-") as name:
        scratch = Path(name)
        for measure in (_cost, _latency, _flood):
            say(measure.__doc__ or "")
            measure(scratch, figures)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=1) + "\n")
    _show(figures)


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


@contextmanager
def _monitor(scratch: Path, figures: Figures | None = None) -> Iterator[Monitor]:
    start = time.perf_counter()
    with private_monitor(scratch, "--listen", "") as monitor:
        if figures is not None:
            figures["start_s"] = {"value": round(time.perf_counter() - start, 2)}
        yield monitor


def _load(*words: str, inside: Monitor | None = None) -> float:
    command = [sys.executable, str(LOADS), *words]
    if inside is not None:
        command = [*inside.run_command("bench"), *command]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _cost(scratch: Path, figures: Figures) -> None:
    """what the sensors cost a loop and a build, in and out of a session"""
    turns, files = str(LOOP_TURNS), str(BUILD_FILES)
    ratios: dict[str, list[float]] = {"loop_outside": [], "loop_inside": [], "build_inside": []}
    for _ in range(PAIRS):
        loop, build = _load("loop", turns), _load("build", files)
        with _monitor(scratch) as monitor:
            ratios["loop_outside"].append(_load("loop", turns) / loop)
            ratios["loop_inside"].append(_load("loop", turns, inside=monitor) / loop)
            ratios["build_inside"].append(_load("build", files, inside=monitor) / build)
    for name, found in ratios.items():
        figures[f"{name}_ratio"] = {"ratio": round(statistics.median(found), 3), "n": PAIRS}


def _latency(scratch: Path, figures: Figures) -> None:
    """from the system call to the verdict and to the frozen cgroup, for five ways to edit hosts"""
    etc, links = scratch / "etc", scratch / "links"
    subprocess.run(["cp", "-a", "/etc", etc], check=True)
    links.mkdir()
    (links / "symbolic").symlink_to("/etc/hosts")
    with _monitor(scratch, figures) as monitor:
        agent = _editor(monitor, etc, links)
        spans: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for number in range(TRIES):
            way = WAYS[number % len(WAYS)]
            _link_again(etc, links)
            spans[way].append(_edit(monitor, agent, way))
        rss = psutil.Process(_daemon_of(monitor)).memory_info().rss
        figures["rss_mib"] = {"value": round(rss / 2**20)}
        monitor.act("edit", "kill", "the bench is over")
        agent.wait()
    every = [span for found in spans.values() for span in found]
    figures["verdict_us"] = _percentiles([verdict for verdict, _ in every])
    figures["frozen_us"] = _percentiles([frozen for _, frozen in every])
    for way, found in spans.items():
        figures[f"frozen_us ({way})"] = _percentiles([frozen for _, frozen in found])


def _editor(monitor: Monitor, etc: Path, links: Path) -> subprocess.Popen[str]:
    """An agent for whom `/etc` is the scratch copy, in a mount namespace of its own."""
    command = [*monitor.run_command("edit"), sys.executable, str(LOADS), "edit", str(links)]
    stage = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    script = f'mount --bind {etc} /etc && exec "$@"'
    return subprocess.Popen(
        [*stage, script, "sh", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _link_again(etc: Path, links: Path) -> None:
    """A rename made another inode the hosts file; the monitor's housekeeper has to see it too."""
    hard = links / "hard"
    if not hard.exists() or not hard.samefile(etc / "hosts"):
        hard.unlink(missing_ok=True)
        hard.hardlink_to(etc / "hosts")
        time.sleep(1.0)


def _edit(monitor: Monitor, agent: subprocess.Popen[str], way: str) -> tuple[float, float]:
    """us from before the system call to the verdict and to `frozen 1`."""
    assert agent.stdin is not None
    assert agent.stdout is not None
    before = {alert["id"] for alert in monitor.alerts("edit")} if agent.poll() is None else set()
    agent.stdin.write(f"{way}\n")
    agent.stdin.flush()
    time.sleep(QUIET_S)  # asking the API meanwhile would be measured too
    while not (new := [a for a in _frozen(monitor) if a["id"] not in before]):
        time.sleep(QUIET_S)
    monitor.act("edit", "resume", "again")
    start_ns = int(agent.stdout.readline())
    act_ns, timings = new[0]["event"]["ktime_ns"], new[0]["timings_ns"]
    late_ns = act_ns - start_ns
    return (late_ns + timings["matched"]) / 1000, (late_ns + timings["frozen"]) / 1000


def _frozen(monitor: Monitor) -> list[dict[str, Any]]:
    return [a for a in monitor.alerts("edit") if a["outcome"]["action"] == "frozen"]


def _daemon_of(monitor: Monitor) -> int:
    runtime = str(monitor.runtime_dir)
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "daemon" in words and runtime in words:
            return int(process.pid)
    raise LookupError(f"no daemon on {runtime}")


def _flood(scratch: Path, figures: Figures) -> None:
    """how many events a second until one is lost"""
    with _monitor(scratch) as monitor:
        best = 0.0
        for rate in RATES:
            made = _load("burst", str(rate), str(BURST_S), inside=monitor)
            time.sleep(1.0)
            if sum(monitor.health()["lost"].values()):
                break
            best = max(best, made)
        figures["events_per_s"] = {"value": round(best)}
    with _monitor(scratch) as monitor:
        _load("burst", str(10**9), str(1.0), inside=monitor)
        time.sleep(1.0)
        figures["burst_lost"] = {"value": sum(monitor.health()["lost"].values())}


def _percentiles(values: list[float]) -> dict[str, Any]:
    cuts = statistics.quantiles(values, n=100)
    return {"unit": "us", "n": len(values), "p50": round(cuts[49]), "p99": round(cuts[98])}


def _show(figures: Figures) -> None:
    table = Table("figure", "value", "n")
    for name, figure in sorted(figures.items()):
        value = figure.get("ratio", figure.get("value"))
        shown = f"p50 {figure['p50']}, p99 {figure['p99']} us" if value is None else str(value)
        table.add_row(name, shown, str(figure.get("n", "")))
    Console().print(table)


if __name__ == "__main__":
    main()
