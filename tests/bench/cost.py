# SPDX-License-Identifier: Apache-2.0
"""What the sensors cost ordinary work. Machines are noisy: ratios of runs made in turn.

Each turn measures without the monitor, beside it, and without it once more. Of a loop that takes
microseconds the fastest round of all counts; of a build, what the machine itself gains or loses
meanwhile is halved out of the ratio.
"""

from __future__ import annotations

import os
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.client import MonitorError
from agent.private_monitor import Monitor, until
from monitor.capture import bpf
from monitor.capture.btf import KernelBtf
from monitor.capture.probe import HOOK, probe
from monitor.tier import Tier
from tests.bench.figures import Figures, compiled, load, monitored, timed

TURNS = int(os.environ.get("TURNS", "5"))
"""Once is enough where a clock counts instructions."""
BUILD = ("build", "60")
OPENS = Path(__file__).with_name("programs") / "opens.c"
_AGAIN = 1 if TURNS == 1 else 2  # one second may fall into a slow one of the machine
_NOTHING = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit
_WAIT_S = 60.0

Took = dict[str, float]


def measure_start(scratch: Path, figures: Figures) -> None:
    """how long a monitor takes to start, the first time on a kernel and then"""
    for name in ("first_start_s", "start_s"):
        begun = time.perf_counter()
        with monitored(scratch):
            figures[name] = {"value": round(time.perf_counter() - begun, 2)}


def measure_loop(scratch: Path, figures: Figures) -> None:
    """what the sensors cost a loop of open and close, in and out of a session"""
    opens, file = compiled(scratch, OPENS), scratch / "opened"
    file.touch()
    tier = probe(KernelBtf().function(HOOK))
    fastest: Took = {}

    def run(name: str, inside: Monitor | None = None) -> None:
        for _ in range(_AGAIN):
            took = timed([str(opens), str(file)], inside=inside)
            fastest[name] = min(took, fastest.get(name, took))

    for _ in range(TURNS):
        run("alone")
        with _nothing_attached(tier):
            run("nothing")
        with monitored(scratch) as monitor:
            run("outside")
            with _idle_session(monitor):
                run("beside")
            run("inside", monitor)
        run("alone")
    kind = "_lsm" if tier is Tier.LSM else ""
    for name in ("nothing", "outside", "beside", "inside"):
        ratio = round(fastest[name] / fastest["alone"], 3)
        figures[f"loop_{name}{kind}_ratio"] = {"value": ratio, "n": TURNS}
    more = round(fastest["beside"] / fastest["nothing"], 3)
    figures[f"loop_above_nothing{kind}_ratio"] = {"value": more, "n": TURNS}


@contextmanager
def _nothing_attached(tier: Tier) -> Iterator[None]:
    """A program that does nothing, where ours is asked of every open: no monitor can cost less."""
    if tier is Tier.LSM:
        hook = KernelBtf().function(HOOK)
        program = bpf.load(bpf.Load.LSM, _NOTHING, "nothing", function=hook)
        link = bpf.attach_at_function(program)
    else:
        program = bpf.load(bpf.Load.RAW_TRACEPOINT, _NOTHING, "nothing")
        link = bpf.attach_raw_tracepoint(program, "sys_exit")
    try:
        yield
    finally:
        os.close(link)
        os.close(program)


@contextmanager
def _idle_session(monitor: Monitor) -> Iterator[None]:
    """One that has nothing to do with who is measured."""
    with subprocess.Popen([*monitor.run_command("idle"), "sleep", "infinity"]):
        assert until(lambda: _is_there(monitor, "idle"), _WAIT_S)
        try:
            yield
        finally:
            monitor.act("idle", "kill", "the bench goes on")


def _is_there(monitor: Monitor, name: str) -> bool:
    try:
        return bool(monitor.session(name)["state"] == "running")
    except MonitorError:
        return False


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
