# SPDX-License-Identifier: Apache-2.0
"""Written files, looked at again when the writer should be done: a copy of the agent, or its name?

On the tracepoint tier no hook sees the close of one file without costing every process on the
machine a second probe for each system call, so content is looked at after fixed delays instead. A
copy that is run, renamed into place or read back is recognised at that moment, without waiting.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from monitor.sessions.live import LiveSession
from monitor.subjects import Process

_DELAYS_NS = (5_000_000, 15_000_000, 50_000_000, 500_000_000, 5_000_000_000)
"""From one look to the next. Soon once more: a writer who had to wait for a processor between its open
and its write is taken for one that wrote something else, and acts meanwhile."""
_MAX_WAITING = 20_000
_LOOKS = 32
"""At a time: with all that was due, whoever wrote 20,000 files kept every stop waiting for two seconds."""
_LONGEST_NS = 5_000_000
"""No look begins after so long: the content of one file may take a tenth of a second."""


@dataclass(frozen=True)
class Written:
    """A file that was opened to be written. `path` is the agent's word for it, `reachable` ours."""

    path: str
    reachable: str
    key: tuple[int, int]


@dataclass(frozen=True)
class Settled:
    """What was found: a copy, or else a file that names the agent."""

    file: Written
    live: LiveSession
    process: Process
    copy: bool


@dataclass(order=True)
class _Look:
    due_ns: int
    file: Written = field(compare=False)
    live: LiveSession = field(compare=False)
    process: Process = field(compare=False)
    step: int = field(compare=False)


class Settling:
    """A bounded timetable; what does not fit is counted in `dropped`."""

    def __init__(self) -> None:
        self._looks: list[_Look] = []
        self._waiting: set[tuple[str, Written]] = set()
        self.dropped = 0

    def add(self, file: Written, live: LiveSession, process: Process, now_ns: int) -> None:
        """Look at a file that is being written, soon and again."""
        if (live.id, file) in self._waiting:
            return
        if len(self._looks) >= _MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.add((live.id, file))
        heapq.heappush(self._looks, _Look(now_ns + _DELAYS_NS[0], file, live, process, 0))

    def due(self, now_ns: int) -> Iterator[Settled]:
        """Files that turned out to be copies or to name the agent, each reported once.

        Of those that are due some are looked at; the others remain due.
        """
        end_ns = time.monotonic_ns() + _LONGEST_NS
        for _ in range(_LOOKS):
            if not self._looks or self._looks[0].due_ns > now_ns or time.monotonic_ns() > end_ns:
                return
            look = heapq.heappop(self._looks)
            program, file = look.live.program, look.file
            copy = program.is_copy(file.reachable, file.path)
            if copy or program.named_in(file.reachable):
                self._waiting.discard((look.live.id, file))
                yield Settled(file, look.live, look.process, copy=copy)
            elif look.step + 1 < len(_DELAYS_NS) and look.live.state.alive:
                look.step += 1
                look.due_ns = now_ns + _DELAYS_NS[look.step]
                heapq.heappush(self._looks, look)
            else:
                self._waiting.discard((look.live.id, look.file))

    def wait_ms(self, now_ns: int, longest_ms: int) -> int:
        """How long the pipeline may sleep before the next look."""
        if not self._looks:
            return longest_ms
        return max(0, min(longest_ms, (self._looks[0].due_ns - now_ns) // 1_000_000 + 1))
