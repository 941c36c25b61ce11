# SPDX-License-Identifier: Apache-2.0
"""Sessions that the kernel holds, and the answers they wait for; it sends no signal itself.

The kernel counts a session's candidates, we count our answers, and while the two differ the
session's network is cut (`waits_for_answer` of bpf/scope.h). The processes it stopped are in `held`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

Row = tuple[Any, ...]


class Table(Protocol):
    """A map of the kernel side; keys and values are the members of its C structs, in their order."""

    def get(self, *key: Any) -> Row | None:  # noqa: ANN401 - the map says which types
        """The row, if there is one."""
        ...

    def set(self, key: Row, value: Row) -> None:
        """Write the row."""
        ...

    def delete(self, *key: Any) -> bool:  # noqa: ANN401 - the map says which types
        """Remove the row; False where there was none."""
        ...

    def keys(self) -> Iterator[Row]:
        """The keys of all rows, as of now."""
        ...


class Tables(Protocol):
    """Where the maps come from: `capture.kernel.Kernel`."""

    def map(self, name: str) -> Table:
        """A map by its name in bpf/maps.h."""
        ...


class Reason(IntEnum):
    """Why the kernel stopped a process: ESTOP_HELD_* of bpf/maps.h."""

    CANDIDATE = 1
    QUARANTINE = 2
    SILENCE = 3


class Answer(IntEnum):
    """What becomes of an act that waits to happen: ESTOP_* of bpf/maps.h."""

    UNANSWERED = 0
    LET = 1
    FORBID = 2


_ANSWER = 1  # its place in `struct estop_question`
_KTIME_NS = -3


class Hold(NamedTuple):
    """A process that waits for SIGCONT, since `ktime_ns`."""

    pid: int
    slot: int
    reason: Reason
    ktime_ns: int


class Holds:
    """One for the monitor; any thread may ask, answers are counted under a lock."""

    def __init__(self, tables: Tables) -> None:
        self._held = tables.map("held")
        self._questions = tables.map("questions")
        self._candidates = tables.map("candidates")
        self._answers = tables.map("answers")
        self._answered_ns = tables.map("answered_ns")
        self._unsent = tables.map("unsent")
        self._given_up = tables.map("given_up")
        slots = list(self._answers.keys())
        self._settled_ns = {slot: _count(self._answered_ns, slot) for (slot,) in slots}
        """By slot: what was held by then is answered, by the monitor before or by `answer_all`."""
        self._lock = threading.Lock()

    def answer(self, slot: int, held_ns: int) -> None:
        """One candidate of the session is judged: the one that was held at `held_ns`.

        A record may come twice, once before and once after a restart. An answer too many would be taken for
        that of an act that nobody has judged.
        """
        with self._lock:
            settled_ns = self._settled_ns[slot]
            if settled_ns and held_ns <= settled_ns:
                return
            answered = min(_count(self._answers, slot) + 1, _count(self._candidates, slot))
            self._answers.set((slot,), (answered,))
            self._answered_ns.set((slot,), (max(held_ns, _count(self._answered_ns, slot)),))

    def unanswerable(self, slot: int) -> bool:
        """Is there a candidate that we were not told of, because a ring was full? `answer_all` ends that."""
        return _count(self._unsent, slot) > _count(self._given_up, slot)

    def decide(self, tid: int, ktime_ns: int, answer: Answer) -> None:
        """What the thread finds when its call starts anew; an answer that was given stands.

        To be written before anybody continues it: without an answer it asks again.
        """
        row = self._questions.get(tid)
        if row is not None and row[_KTIME_NS] == ktime_ns:
            self._decide(tid, row, answer)

    def decide_all(self, slot: int, answer: Answer) -> None:
        """The same for all threads of a session."""
        for (tid,) in list(self._questions.keys()):
            row = self._questions.get(tid)
            if row is not None and row[0] == slot:
                self._decide(tid, row, answer)

    def _decide(self, tid: int, row: Row, answer: Answer) -> None:
        if row[_ANSWER] == Answer.UNANSWERED:
            self._questions.set((tid,), (*row[:_ANSWER], int(answer), *row[_ANSWER + 1 :]))

    def answered(self, slot: int) -> int:
        """How many candidates of the session were answered since it was opened."""
        return _count(self._answers, slot)

    def waiting(self, slot: int) -> int:
        """Candidates of the session that nobody has answered."""
        return _count(self._candidates, slot) - _count(self._answers, slot)

    def answer_all(self, slot: int) -> None:
        """Whatever the session asked is answered: a decision was made over its head."""
        with self._lock:
            # Before what is counted: of what comes between the two the answer is still to come.
            self._given_up.set((slot,), (_count(self._unsent, slot),))
            self._settled_ns[slot] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            self._answers.set((slot,), (_count(self._candidates, slot),))

    def of(self, pid: int) -> Hold | None:
        """Since when, and for what, the process waits for our SIGCONT. The kernel forgets it at its exit."""
        row = self._held.get(pid)
        return Hold(pid, row[0], Reason(row[1]), row[2]) if row is not None else None

    def stopped(self, slot: int = 0) -> Iterator[Hold]:
        """The processes that wait, of one session or of all."""
        for (pid,) in list(self._held.keys()):
            hold = self.of(pid)
            if hold is not None and slot in {0, hold.slot}:
                yield hold

    def forget(self, pid: int) -> None:
        """It is continued."""
        self._held.delete(pid)

    def remember(self, hold: Hold) -> None:
        """It is not continued after all: it goes on when all that its session asked is answered."""
        self._held.set((hold.pid,), (hold.slot, int(Reason.CANDIDATE), hold.ktime_ns))


def _count(table: Table, slot: int) -> int:
    row = table.get(slot)
    return int(row[0]) if row is not None else 0
