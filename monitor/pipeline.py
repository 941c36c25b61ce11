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

from monitor.alerts import Rule
from monitor.capture.decode import REHEARSALS, decode
from monitor.detection.engine import Engine
from monitor.events import KINDS, Event
from monitor.fields import Fact
from monitor.metrics import Metrics
from monitor.responder import Responder
from monitor.sessions.registry import Observation, Registry

_LONGEST_WAIT_MS = 200
_REHEARSE_EVERY_MS = 10


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
        """Until `stop` is set. An exception ends the monitor: blindness must not look like calm."""
        while not stop.is_set() or self._source.behind:
            self.step()

    def step(self) -> None:
        """One batch from the kernel to the stop."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        longest_ms = _REHEARSE_EVERY_MS if self._registry.running() else _LONGEST_WAIT_MS
        idle = True
        for event in self._events(self._registry.settling.wait_ms(now_ns, longest_ms)):
            idle = False
            observation = self._registry.observe(event)
            if observation is not None:
                self._judge(observation)
                self._registry.remember(observation)
        if not self._source.behind:
            self._registry.caught_up(now_ns)
        if idle:
            self._rehearse()
        for observation in self._registry.settled(time.clock_gettime_ns(time.CLOCK_BOOTTIME)):
            self._judge(observation)

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

        After 200 ms of sleep the first verdict took five times as long as the tenth.
        """
        if self._registry.running():
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
