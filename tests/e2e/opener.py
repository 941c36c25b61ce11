# SPDX-License-Identifier: Apache-2.0
"""An agent that opens what it is told and says what came of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supervised import Supervised, supervised

from agent.private_monitor import Monitor, until

_AGENT = """
import json, os, pathlib, sys, time
home = pathlib.Path(sys.argv[1])
while True:
    while not (home / 'order').exists():
        time.sleep(0.005)
    path, flags, times = json.loads((home / 'order').read_text())
    (home / 'order').unlink()
    took = []
    for _ in range(times):
        start = time.perf_counter_ns()
        try:
            fd = os.open(path, flags)
            said = os.read(fd, 100).decode() if flags == os.O_RDONLY else 'opened'
            os.close(fd)
        except OSError as error:
            said = error.errno
        took.append(time.perf_counter_ns() - start)
    took.sort()
    (home / 'said.new').write_text(json.dumps([said, took[len(took) // 2], took[len(took) * 99 // 100]]))
    (home / 'said.new').rename(home / 'said')
"""


class Agent:
    """An agent that opens what it is told."""

    def __init__(self, of: Supervised, place: Path) -> None:
        self.of = of
        self.place = place
        self.home = place / "home"

    def order(self, path: str, flags: int = os.O_RDONLY, times: int = 1) -> None:
        (self.home / "new").write_text(json.dumps([path, flags, times]))
        (self.home / "new").rename(self.home / "order")

    def said(self, timeout_s: float = 10) -> object:
        """What it got: the beginning of the text, or the number of the error."""
        return self.timed(timeout_s)[0]

    def timed(self, timeout_s: float = 10) -> list:
        assert until(self._answered, timeout_s, 0.005), self.of.output
        found = json.loads((self.home / "said").read_text())
        (self.home / "said").unlink()
        return found

    def _answered(self) -> bool:
        return (self.home / "said").exists()

    def opens(self, path: str, flags: int = os.O_RDONLY) -> object:
        self.order(path, flags)
        return self.said()


@contextmanager
def opener(monitor: Monitor, place: Path, user) -> Iterator[Agent]:
    command = ["/usr/bin/python3", "-c", _AGENT, str(place / "home")]
    with supervised(monitor, place, user, command, []) as of:
        agent = Agent(of, place)
        assert agent.opens(f"{place}/output.log", os.O_WRONLY) == "opened"
        gate_caught_up()
        yield agent


def gate_caught_up() -> None:
    """The home of a new session is marked in the housekeeper's next round."""
    time.sleep(1.2)
