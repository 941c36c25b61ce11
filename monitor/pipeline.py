# SPDX-License-Identifier: Apache-2.0
"""The product on one screen: a record of the kernel becomes an event, a fact, a match, a stop.

    capture    Source.read()        the next records, alarms with them       capture/records.py
               Gate.take()          opens that wait for our word             capture/gate.py
               decode()             bytes -> Event                           capture/decode.py
    sessions   Observer.observe()   whose it is, who did it -> facts         sessions/observer.py
    detection  Engine.matches()     facts -> rules that match, all of them   detection/engine.py
               Engine.correlate()   and what they make together              detection/correlate.py
    response   Responder.contain()  what the kernel held is frozen meanwhile  responder.py
               Responder.respond()  cut, freeze, confirm; then record
               Responder.answer()   or released: it was nothing
    record     Store.save_alert()   on disk before anybody is told           record/store.py
    api        GET /alerts/stream   people and programs hear of it           api/

One thread runs this loop and nothing else; everything that may wait (evidence, disk, people) is on
other threads.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Protocol

import structlog
from msgspec.structs import replace

from monitor.alerts import Rule
from monitor.capture import wire
from monitor.capture.decode import NAMES, decode
from monitor.capture.question import Question
from monitor.detection.engine import Engine
from monitor.events import KINDS, Event, Verdict
from monitor.fields import Fact
from monitor.looking import UnansweredError
from monitor.metrics import Metrics
from monitor.recording.taps import Taps
from monitor.responder import Responder
from monitor.sessions.live import LiveSession
from monitor.sessions.observer import Observation, Observer
from monitor.sessions.registry import Registry
from monitor.sessions.taint import NONE, Labels, labels_of

_log = structlog.get_logger()

_LONGEST_WAIT_MS = 200
_DRAIN_S = 2.0
_PATIENCE_NS = 50_000_000
"""How long a question waits for the rings to be read to their end; in a flood that is never."""


_FLOOD_SHARE = 4
"""Whose records are at least one in so many makes the flood, or his part of it."""


class Source(Protocol):
    """Where records come from: the kernel, or a recording."""

    behind: bool
    """True while the last read left records behind."""
    flooded: bool
    """True while so many are left that somebody makes them faster than they are looked at."""

    def wait(self, timeout_ms: int) -> None:
        """For the next record or question, at most so long; not longer for an alarm than it must."""
        ...

    def read(self, timeout_ms: int) -> list[bytes]:
        """The next records, waiting at most so long for the first."""
        ...

    def ahead(self) -> list[bytes]:
        """Alarms that came since `read`, which will return them in their turn."""
        ...

    def beat(self) -> None:
        """The monitor is alive: without this the kernel holds every session (dead-man switch)."""
        ...

    def mark(self) -> tuple[int, ...]:
        """How far it has been read."""
        ...

    def commit(self, mark: tuple[int, ...] | None = None) -> None:
        """What was read, up to the mark or all of it, need not come again after a restart."""
        ...


class Gate(Protocol):
    """Where opens wait that a rule may forbid: `capture.gate.Gate`."""

    def take(self) -> list[Question]:
        """Those that came since, oldest first."""
        ...

    def answer(self, question: Question, *, allow: bool) -> None:
        """Let it happen, or not."""
        ...

    def commit(self) -> None:
        """What was taken need not come again after a restart."""
        ...


class Record(Protocol):
    """Where alerts go: `record.store.Store`. Rows are numbered as they are taken."""

    @property
    def taken(self) -> int:
        """Number of the newest row."""
        ...

    @property
    def durable(self) -> int:
        """Every row up to this number is on disk."""
        ...


class Pipeline:
    """Joins the stages."""

    def __init__(
        self,
        source: Source,
        registry: Registry,
        observer: Observer,
        engine: Engine,
        responder: Responder,
        record: Record,
        metrics: Metrics,
        *,
        gate: Gate,
        told: AbstractSet[tuple[str, int, str]] = frozenset(),
        taps: Taps | None = None,
    ) -> None:
        """`told`: session id, `ktime_ns` and rule id of alerts that an earlier monitor recorded."""
        self._told = told
        self._taps = taps or Taps()
        self._source = source
        self._gate = gate
        self._asked: deque[Question] = deque()
        self._record = record
        self._held: deque[tuple[tuple[int, ...], int]] = deque()
        """How far the source had been read when so many rows had been taken."""
        self._holds_back = False
        """Does anybody stand still until he was looked at?"""
        self._silent: list[LiveSession] = []
        """Whose files nobody answers for, until the housekeeper has stopped them."""
        self._unread: AbstractSet[int] = frozenset()
        """Slots of which the rings may hold more. They keep the order: of who stands still all was read,
        or nearly so, once a batch comes without him, whoever else fills them."""
        self._registry = registry
        self._observer = observer
        self._engine = engine
        self._responder = responder
        # One look-up by class: asking the metric by label costs as much as the whole match.
        self._counters = {kind: metrics.events.labels(kind.__name__) for kind in KINDS}

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set, and then for what is still in the rings, but not for a flood."""
        while not stop.is_set():
            self.step()
        deadline = time.monotonic() + _DRAIN_S
        while self._is_behind and time.monotonic() < deadline:
            self.step()
        self._responder.let_go_on(at_once=True)  # or the next monitor would find a frozen session

    @property
    def _is_behind(self) -> bool:
        return self._source.behind or bool(self._observer.settling.deferred())

    def step(self) -> None:
        """One batch from the kernel to the stop."""
        self._source.beat()
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for event in self._events(self._observer.settling.wait_ms(now_ns, _LONGEST_WAIT_MS)):
            self._take(event)
        if not self._source.behind:
            self._registry.caught_up(now_ns)
        if not self._source.behind or self._holds_back:
            self._silent = [live for live in self._silent if live.unanswered]
            waiting = {live.slot for live in self._observer.settling.deferred()}
            waiting |= {live.slot for live in self._silent}
            self._holds_back = self._responder.let_go_on(self._unread | waiting)
        while self._asked and self._may_judge(self._asked[0]):
            self._answer(self._asked.popleft())
        for observation in self._observer.settled(time.clock_gettime_ns(time.CLOCK_BOOTTIME)):
            self._judge(observation)
        self._wait_for_looks()
        self._give_back()

    def _wait_for_looks(self) -> None:
        """Whose act was judged in part stands still until the rest is known (`sessions/looks.py`)."""
        for live in self._observer.settling.deferred():
            self._responder.hold_back(live)
            self._holds_back = True

    def _give_back(self) -> None:
        """Let go of the records that were judged and whose alerts are on disk.

        A monitor that is killed before that reads them again in its next life.
        """
        if self._observer.settling.deferred() and not self._source.behind:
            return  # but for a look, which the next monitor would have to begin anew
        taken, held = self._record.taken, self._held
        if not held and self._record.durable >= taken:
            self._source.commit()
            if not self._asked:
                self._gate.commit()
            return
        if held and held[-1][1] == taken:
            held.pop()  # what was read since left nothing to record
        held.append((self._source.mark(), taken))
        done = None
        while held and held[0][1] <= self._record.durable:
            done, _ = held.popleft()
        if done is not None:
            self._source.commit(done)

    def _take(self, event: Event) -> None:
        """One event through the stages.

        One that breaks them is a lost event, counted and alarmed like the others: if it ended the
        monitor, an agent that found such an event would have found a way out. A candidate stays held
        then, until `fail_mode` decides.
        """
        asks = Verdict.CANDIDATE in event.verdict
        live = self._registry.live_in(event.slot) if asks else None
        try:
            if Verdict.BEFORE in event.verdict:
                self._decide(event)
            elif (observation := self._observer.observe(event)) is not None:
                matches = self._judge(observation)
                labels = _labels(matches) if matches else NONE
                self._observer.remember(observation, labels)
                self._wait_for_looks()  # before the answer, with which it would go on
            if live is not None:
                self._responder.answer(live, event)
        except UnansweredError:
            self._does_not_answer(event.slot, asks=asks)
        except Exception:  # noqa: BLE001 - whatever it is, the next event must be judged
            self._observer.unjudged += 1
            if live is not None:
                live.unjudged += 1
            _log.exception("event.unjudged", kind=type(event).__name__, slot=event.slot)

    def _does_not_answer(self, slot: int, *, asks: bool = False) -> None:
        """What it did cannot be judged, and that is its own doing: it stands still until it is stopped."""
        live = self._registry.live_in(slot)
        if live is None:
            return
        live.unjudged += asks
        live.does_not_answer()
        self._silent.append(live)
        self._responder.hold_back(live, busy=False)
        self._holds_back = True

    def _decide(self, event: Event) -> None:
        """An act that its thread was stopped before, in the words of bpf/before.h."""
        if self._refuses(replace(event, verdict=event.verdict | Verdict.REFUSED)):
            self._responder.forbid(event)

    def _refuses(self, event: Event) -> bool:
        """An act that has not happened: refused with the session's stop, or it is no event at all.

        If it is allowed, its record follows and is judged like any other.
        """
        received_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        observation = self._observer.consider(event)
        if observation is None:
            return False
        matches = self._engine.matches(observation.facts)
        if not self._responder.refuses(observation, matches):
            return False
        self._observer.keep(event, observation.live)
        self._respond(observation, self._engine.told(matches), received_ns)
        return True

    def _events(self, wait_ms: int) -> Iterable[Event]:
        self._source.wait(0 if self._asked else wait_ms)
        # Before the rings are read: then they hold all that the askers did until they asked.
        self._asked += self._gate.take()
        records = self._source.read(0)
        self._contain(records)
        self._unread = frozenset(map(wire.slot, records)) if self._source.behind else frozenset()
        if self._source.flooded:
            self._hold_back(records)
        # The two rings are in order each; together they are put in order by the kernel's clock.
        records.sort(key=_ktime_ns)
        for record in records:
            # The batch takes its milliseconds. What it does not build on is judged after it, but stands
            # still before.
            self._contain(self._source.ahead())
            event = decode(record)
            if event is not None:
                yield event
                self._counters[type(event)].inc()  # which takes as long as a rule's verdict
        yield from self._registry.pending()

    def _hold_back(self, records: list[bytes]) -> None:
        """Who fills the ring stands still until it is read: what is not looked at could be anything."""
        made = Counter(map(wire.slot, records))
        for slot, count in made.items():
            live = self._registry.live_in(slot)
            if live is not None and count * _FLOOD_SHARE >= len(records):
                self._responder.hold_back(live)
                self._holds_back = True

    def _contain(self, records: list[bytes]) -> None:
        """Before anything else is looked at: freezing takes its time."""
        for record in records:
            live = self._registry.live_in(wire.slot(record)) if _stands_still(record) else None
            if live is not None:
                self._responder.contain(live)

    def _may_judge(self, question: Question) -> bool:
        waits_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - question.ktime_ns
        return not self._source.behind or waits_ns > _PATIENCE_NS

    def _answer(self, question: Question) -> None:
        """One that breaks the stages is not answered: `fail_mode` decides."""
        try:
            sent_bytes = self._responder.sent_bytes(question.slot)
            event = self._observer.asked(question, sent_bytes)
            self._gate.answer(question, allow=not self._refuses(event))
        except UnansweredError:
            self._does_not_answer(question.slot)
        except Exception:  # noqa: BLE001 - as in `_take`
            self._observer.unjudged += 1
            _log.exception("question.unjudged", slot=question.slot)

    def _judge(self, observation: Observation) -> dict[str, tuple[Rule, Fact]]:
        received_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        matches, event = self._engine.matches(observation.facts), observation.event
        at_ns = event.ktime_ns
        if observation.judged:
            at_ns = received_ns  # of what correlations are made of comes in order
            for rule in self._engine.matches(observation.judged):
                matches.pop(rule, None)
        if Verdict.REFUSED in event.verdict:  # it did not happen: nothing can follow from it
            told = self._engine.told(matches)
        else:
            told = self._engine.correlate(at_ns, matches)
        self._respond(observation, told, received_ns)
        self._taps.note(observation.live.id, event.ktime_ns, observation.facts)
        return matches

    def _respond(
        self, observation: Observation, matches: dict[str, tuple[Rule, Fact]], received_ns: int
    ) -> None:
        if matches and self._told:
            # Judged and told, and not given back before the monitor was killed: it stays refused.
            act = observation.live.id, observation.event.ktime_ns
            matches = {rule: m for rule, m in matches.items() if (*act, rule) not in self._told}
        if matches:
            self._responder.respond(observation, list(matches.values()), received_ns)


def _labels(matches: dict[str, tuple[Rule, Fact]]) -> Labels:
    return labels_of(tag for rule, _ in matches.values() for tag in rule.tags)


def _stands_still(record: bytes) -> bool:
    """Is its session frozen while it is judged?

    Where the kernel is certain; and of a name that was changed it saw only the words, which take the
    longest to be judged. Others are held alone: their sessions would stand still for an innocent one.
    """
    verdict = wire.verdict(record)
    changed_a_name = verdict & wire.CANDIDATE and wire.kind(record) in NAMES
    return bool(verdict & wire.CERTAIN or (changed_a_name and not verdict & wire.BEFORE))


def _ktime_ns(record: bytes) -> bytes:
    # Bytes 8 to 16 of every record, little endian: reversed they compare like the number.
    return record[15:7:-1]
