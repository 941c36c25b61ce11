# SPDX-License-Identifier: Apache-2.0
"""The product on one screen: a record of the kernel becomes an event, a fact, a match, a stop.

    capture    Source.read()        the next records, alarms with them       capture/kernel.py
               decode()             bytes -> Event                           capture/decode.py
    sessions   Registry.observe()   whose it is, who did it -> facts         sessions/registry.py
    detection  Engine.evaluate()    facts -> rules that match, all of them   detection/engine.py
    response   Responder.respond()  cut, freeze, confirm; then record        responder.py
    record     Store.save_alert()   on disk before anybody is told           record/store.py
    api        GET /alerts/stream   people and programs hear of it           api/

One thread runs this loop and nothing else; everything that may wait (evidence, disk, people) is on
other threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Protocol

import structlog

from monitor.alerts import Rule
from monitor.capture.decode import REHEARSALS, decode
from monitor.detection.engine import Engine
from monitor.events import KINDS, Event
from monitor.fields import Fact
from monitor.metrics import Metrics
from monitor.responder import Responder
from monitor.sessions.registry import Observation, Registry

_log = structlog.get_logger()

_LONGEST_WAIT_MS = 200
_REHEARSE_EVERY_MS = 10
_DRAIN_S = 2.0


class Source(Protocol):
    """Where records come from: the kernel, or a recording."""

    behind: bool
    """True while the last read left records behind."""

    def read(self, timeout_ms: int) -> list[bytes]:
        """The next records, waiting at most so long for the first."""
        ...


class Pipeline:
    """Joins the stages."""

    def __init__(
        self,
        source: Source,
        registry: Registry,
        engine: Engine,
        responder: Responder,
        metrics: Metrics,
    ) -> None:
        self._source = source
        self._registry = registry
        self._engine = engine
        self._responder = responder
        # One look-up by class: asking the metric by label costs as much as the whole match.
        self._counters = {kind: metrics.events.labels(kind.__name__) for kind in KINDS}

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set, and then for what is still in the rings, but not for a flood."""
        while not stop.is_set():
            self.step()
        deadline = time.monotonic() + _DRAIN_S
        while self._source.behind and time.monotonic() < deadline:
            self.step()

    def step(self) -> None:
        """One batch from the kernel to the stop."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        running = self._registry.running()
        longest_ms = _REHEARSE_EVERY_MS if running else _LONGEST_WAIT_MS
        idle = True
        for event in self._events(self._registry.settling.wait_ms(now_ns, longest_ms)):
            idle = False
            self._take(event)
        if not self._source.behind:
            self._registry.caught_up(now_ns)
        if idle and running:
            self._rehearse()
        for observation in self._registry.settled(time.clock_gettime_ns(time.CLOCK_BOOTTIME)):
            self._judge(observation)

    def _take(self, event: Event) -> None:
        """One event through the stages.

        One that breaks them is a lost event, counted and alarmed like the others: if it ended the
        monitor, an agent that found such an event would have found a way out.
        """
        try:
            observation = self._registry.observe(event)
            if observation is not None:
                self._judge(observation)
                self._registry.remember(observation)
        except Exception:  # noqa: BLE001 - whatever it is, the next event must be judged
            self._registry.unjudged += 1
            _log.exception("event.unjudged", kind=type(event).__name__, slot=event.slot)

    def _events(self, wait_ms: int) -> Iterable[Event]:
        # The two rings are in order each; together they are put in order by the kernel's clock.
        records = sorted(self._source.read(wait_ms), key=_ktime_ns)
        for record in records:
            event = decode(record)
            if event is not None:
                self._counters[type(event)].inc()
                yield event
        yield from self._registry.pending()

    def _rehearse(self) -> None:
        """Keep the way from record to verdict in the processor's caches while nothing happens.

        Without it the first verdict after 200 ms of sleep took three times as long.
        """
        for record in REHEARSALS:
            for fact in self._registry.rehearse(decode(record)):
                self._engine.evaluate(fact)

    def _judge(self, observation: Observation) -> None:
        received_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        matches: dict[str, tuple[Rule, Fact]] = {}
        for fact in observation.facts:
            for rule in self._engine.evaluate(fact):
                matches.setdefault(rule.id, (rule, fact))
        if matches:
            self._responder.respond(observation, list(matches.values()), received_ns)


def _ktime_ns(record: bytes) -> bytes:
    # Bytes 8 to 16 of every record, little endian: reversed they compare like the number.
    return record[15:7:-1]
