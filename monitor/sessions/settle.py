# SPDX-License-Identifier: Apache-2.0
"""Written files, looked at again when the writer should be done: a copy of the agent, or its name?

On the tracepoint tier no hook sees the close of one file without costing every process on the
machine a second probe for each system call, so content is looked at after fixed delays instead. A
copy that is run, renamed into place or read back is recognised at that moment, without waiting.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from monitor.events import Event
from monitor.fields import Fact
from monitor.looking import Look, at_once
from monitor.sessions.live import LiveSession
from monitor.sessions.looks import Allowance, Unknown
from monitor.subjects import Process

_DELAYS_NS = (5_000_000, 15_000_000, 50_000_000, 500_000_000, 5_000_000_000)
"""From one look to the next. Soon once more: a writer who had to wait for a processor between its open
and its write is taken for one that wrote something else, and acts meanwhile."""
_MAX_WAITING = 20_000
_LOOKS = 32
"""At a time: with all that was due, whoever wrote 20,000 files kept every stop waiting for two seconds."""
_LONGEST_NS = 5_000_000
"""No look begins after so long."""
_ROUND_BYTES = 8 * 1024 * 1024
"""Of files that are compared in a round, and of those of acts: 2.5 ms each. Where that ends it goes on in
the next round, so no file is too large to be compared, and none keeps others waiting."""
_ROUNDS = 256
"""For one file: whoever changes it all the time has it compared from its beginning each time."""
_MAX_ACTS = 5_000
"""Of a session, which stands still once there is one, unless it is only observed."""
_WITH_CONTENT = {"process_creation", "file_access", "file_rename"}


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


@dataclass
class Act:
    """It was judged but for some files, of which it was not known whether they are copies."""

    event: Event
    live: LiveSession
    process: Process
    facts: Sequence[Fact]
    files: deque[Unknown]
    judged: Sequence[Fact] = ()
    """By which it was judged before: what rules said of these they say no more."""
    rounds: int = 0

    def with_a_copy(self) -> Act:
        """As it would have been judged if it had been known; only facts in which that says something."""
        facts = [
            Fact(category=fact.category, fields={**fact.fields, "SelfCopy": True})
            for fact in self.facts
            if fact.fields.get("Inode") != 0  # moved along with its directory: no file of the act
            and (fact.category in _WITH_CONTENT or fact.fields.get("Operation") == "link")
        ]
        return Act(self.event, self.live, self.process, facts, deque(), judged=self.facts)

    def close(self) -> None:
        """Nothing more is asked about it."""
        for file in self.files:
            file.close()


@dataclass(order=True)
class _Look:
    due_ns: int
    file: Written = field(compare=False)
    live: LiveSession = field(compare=False)
    process: Process = field(compare=False)
    step: int = field(compare=False)
    rounds: int = field(compare=False, default=0)


class Settling:
    """A bounded timetable; what does not fit is counted in `dropped`."""

    def __init__(self, look: Look = at_once) -> None:
        self._look = look
        self._looks: list[_Look] = []
        self._waiting: set[tuple[str, Written]] = set()
        self._acts: dict[str, deque[Act]] = {}
        """By session id, whose turn is next first."""
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
        end_ns, allowance = time.monotonic_ns() + _LONGEST_NS, Allowance(_ROUND_BYTES)
        for _ in range(_LOOKS):
            if not self._looks or self._looks[0].due_ns > now_ns or time.monotonic_ns() > end_ns:
                return
            look = heapq.heappop(self._looks)
            copy, named = self._found(look, allowance)
            if copy is None and look.rounds < _ROUNDS:
                look.rounds += 1
                look.due_ns = now_ns  # others that are due come first
                heapq.heappush(self._looks, look)
                return
            if copy or named:
                self._waiting.discard((look.live.id, look.file))
                yield Settled(look.file, look.live, look.process, copy=bool(copy))
            elif look.step + 1 < len(_DELAYS_NS) and look.live.state.alive:
                look.step += 1
                look.rounds = 0
                look.due_ns = now_ns + _DELAYS_NS[look.step]
                heapq.heappush(self._looks, look)
            else:
                self._waiting.discard((look.live.id, look.file))

    def _found(self, look: _Look, allowance: Allowance) -> tuple[bool | None, bool]:
        """Is it a copy of the agent, and if that is known and it is none, does it name it?"""
        program, file = look.live.program, look.file

        def compare() -> tuple[bool | None, bool]:
            copy = program.is_copy(file.reachable, file.path, allowance)
            return copy, copy is False and program.named_in(file.reachable)

        return look.live.looked(self._look, compare, (False, False))

    def defer(self, act: Act) -> None:
        """Tell of an act once more, if a file turns out to be a copy. Its session should stand still."""
        acts = self._acts.setdefault(act.live.id, deque())
        if len(acts) < _MAX_ACTS:
            acts.append(act)
        else:
            self.dropped += 1
            act.close()

    def deferred(self) -> list[LiveSession]:
        """Sessions of which acts wait to be told."""
        return [acts[0].live for acts in self._acts.values()]

    def copies(self) -> Iterator[Act]:
        """Acts in which there was a copy, as far as it is known by now; sessions take turns."""
        end_ns, allowance = time.monotonic_ns() + _LONGEST_NS, Allowance(_ROUND_BYTES)
        for session in list(self._acts):
            acts = self._acts.pop(session)
            while acts and time.monotonic_ns() <= end_ns:
                copy = self._has_copy(acts[0], allowance)
                if copy is None and acts[0].rounds < _ROUNDS:
                    acts[0].rounds += 1
                    break
                act = acts.popleft()
                self.dropped += copy is None
                act.close()
                if copy:
                    yield act.with_a_copy()
            if acts:
                self._acts[session] = acts  # after the others
                return

    def _has_copy(self, act: Act, allowance: Allowance) -> bool | None:
        """None: not known yet. Files that are none are done with."""
        while act.files:
            compare = partial(act.files[0].is_copy, allowance)
            copy = act.live.looked(self._look, compare, otherwise=False)
            if copy is not False:
                return copy
            act.files.popleft().close()
        return False

    def wait_ms(self, now_ns: int, longest_ms: int) -> int:
        """How long the pipeline may sleep before the next look."""
        if self._acts:
            return 0
        if not self._looks:
            return longest_ms
        return max(0, min(longest_ms, (self._looks[0].due_ns - now_ns) // 1_000_000 + 1))
