# SPDX-License-Identifier: Apache-2.0
"""The stop while a crowd asks: many follow the alerts, many ask, and a session does all it can."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from agent.private_monitor import Monitor
from tests.bench.figures import Figures, compiled, monitored, percentiles
from tests.bench.latency import WAYS, edit, editor

FOLLOWERS = 200
REQUESTS_PER_S = 100
ASKERS = 10
TRIES = 40
FLOODED_FILES = 150_000
FLOOD = Path(__file__).with_name("programs") / "flood.c"
_ASKED = ("/sessions", "/alerts?limit=50", "/incidents", "/health", "/rules")


def measure(scratch: Path, figures: Figures) -> None:
    """the stop while 200 follow, 100 requests a second are made, and a session floods"""
    with (
        monitored(scratch, refuse_opens="false") as monitor,
        editor(monitor, scratch) as agent,
        _flood(monitor, scratch),
        _crowd(monitor) as crowd,
    ):
        before = psutil.Process(monitor.pid).memory_info().rss
        ways = list(WAYS)
        found = [edit(monitor, agent, scratch, ways[n % len(ways)]) for n in range(TRIES)]
        grown = psutil.Process(monitor.pid).memory_info().rss - before
        health = monitor.health()
        crowd.terminate()
        told = crowd.communicate(timeout=30)[0].split()
    frozen = [spans["frozen"] for spans in found]
    figures["crowd_frozen_us"] = percentiles(frozen)
    figures["crowd_frozen_worst_ms"] = {"value": round(max(frozen) / 1000, 1), "n": len(frozen)}
    figures["crowd_requests_per_s"] = {"value": round(float(told[0]))}
    figures["crowd_streams_told"] = {"value": int(told[1]), "n": FOLLOWERS}
    figures["crowd_rss_grown_mib"] = {"value": round(grown / 2**20)}
    lost = health["lost"]
    lost.pop("budget", None)  # more opens than anybody can look at: with a crowd and without one
    figures["crowd_lost"] = {"value": sum(lost.values()) + health["store"]["dropped"]}


@contextmanager
def _flood(monitor: Monitor, scratch: Path) -> Iterator[None]:
    """A session beside the one that is stopped, that opens files as fast as a processor can."""
    files = scratch / "files"
    files.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", files], check=True)
    words = [compiled(scratch, FLOOD), files, str(FLOODED_FILES)]
    command = [*monitor.run_command("flood"), *map(str, words)]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as agent:
            try:
                assert agent.stdout is not None
                agent.stdout.readline()
                yield
            finally:
                monitor.act("flood", "kill", "the bench is over")
                agent.wait(30)
    finally:
        subprocess.run(["umount", files], check=True)


@contextmanager
def _crowd(monitor: Monitor) -> Iterator[subprocess.Popen[str]]:
    """In a process of its own: its work must not be measured as ours."""
    words = [sys.executable, "-m", "tests.bench.crowd", monitor.socket]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as crowd:
        try:
            yield crowd
        finally:
            crowd.kill()


# The crowd itself -------------------------------------------------------------------------------


async def _come(socket: str) -> None:
    """Follow and ask until SIGTERM; then say how often was answered, and how many heard anything."""
    told = [0] * FOLLOWERS
    answered = 0
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(15, over.set)

    async def follow(number: int) -> None:
        reader, writer = await asyncio.open_unix_connection(socket)
        writer.write(_request("/alerts/stream"))
        while line := await reader.readline():
            told[number] += line.startswith(b"event: alert")

    async def ask(number: int) -> None:
        nonlocal answered
        reader, writer = await asyncio.open_unix_connection(socket)
        for turn, target in enumerate(itertools.cycle(_ASKED)):
            # When it is due, and not so long after the answer before: who is late catches up.
            await asyncio.sleep(begin + (turn * ASKERS + number) / REQUESTS_PER_S - loop.time())
            writer.write(_request(target))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            answered += head.startswith(b"HTTP/1.1 200")

    begin = loop.time()
    work = [asyncio.create_task(follow(n)) for n in range(FOLLOWERS)]
    work += [asyncio.create_task(ask(n)) for n in range(ASKERS)]
    await over.wait()
    for task in work:
        task.cancel()
    print(answered / (loop.time() - begin), sum(map(bool, told)), flush=True)


def _request(target: str) -> bytes:
    return f"GET /api/v1{target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


if __name__ == "__main__":
    os.nice(5)
    asyncio.run(_come(sys.argv[1]))
