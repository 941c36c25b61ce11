# SPDX-License-Identifier: Apache-2.0
"""What has to be looked at now and then: losses, sensors, holds that nobody answered, gauges.

Twice a second, on a thread of its own, so that it works while the pipeline is stuck.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import structlog

import monitor
from monitor.alerts import Level, Response, Rule
from monitor.capture.gate import Gate
from monitor.capture.kernel import Kernel
from monitor.config import FailMode
from monitor.detection.engine import Engine
from monitor.errors import CaptureError
from monitor.metrics import Metrics
from monitor.responder import Responder
from monitor.response.holds import Answer, Hold, Holds, Reason
from monitor.response.verdicts import Verdicts
from monitor.sessions.live import LiveSession
from monitor.sessions.observer import Observer
from monitor.sessions.registry import Registry
from monitor.subjects import Mode, State

_log = structlog.get_logger()


def _own(rule: str, title: str, level: Level, response: Response = Response.ALERT) -> Rule:
    return Rule(
        id=rule, title=title, level=level, response=response, category="monitor", author="estop"
    )


EVENTS_LOST = _own("estop-events-lost", "Events Of A Session Were Lost", Level.HIGH)
PROGRAM_GONE = _own(
    "estop-program-detached",
    "A Sensor Of The Monitor Was Detached",
    Level.CRITICAL,
    Response.FREEZE,
)
GATE_GONE = _own(
    "estop-gate-gone", "The Process That Asks Before Files Are Opened Was Ended", Level.CRITICAL
)
FLOOD = _own("estop-event-flood", "A Session Did More Than Could Be Looked At", Level.HIGH)
FILES_LEFT_OUT = _own(
    "estop-files-left-out", "A Session Has More Watched Files Than Can Be Followed", Level.HIGH
)
VERDICT_LATE = _own(
    "estop-verdict-late", "A Held Act Was Not Judged In Time", Level.CRITICAL, Response.FREEZE
)
BLIND = _own("estop-blind", "Too Much Was Lost To Judge A Session", Level.CRITICAL, Response.FREEZE)
UNANSWERED = _own(
    "estop-unanswered",
    "A Session's Files Are Served By Somebody Who Did Not Answer",
    Level.CRITICAL,
    Response.FREEZE,
)
SILENCE = _own("estop-monitor-silent", "A Session Was Held While No Monitor Ran", Level.HIGH)


_TOLD_AGAIN_S = 10.0
"""A flood that goes on is no news twice a second."""


@dataclass(frozen=True)
class Limits:
    """When `fail_mode` applies. Losses are counted between two looks."""

    fail_mode: FailMode
    hold_timeout_s: float
    losses: int


class _Flood(NamedTuple):
    over: int = 0
    """Opens that were not looked at."""
    held_back_ns: int = 0
    """How long the session stood still so that no more of them came."""
    when: float = -_TOLD_AGAIN_S


class Housekeeper:
    """Looks after the running sessions; `look` belongs to one thread."""

    def __init__(
        self,
        kernel: Kernel,
        registry: Registry,
        observer: Observer,
        engine: Engine,
        responder: Responder,
        holds: Holds,
        metrics: Metrics,
        limits: Limits,
        gate: Gate,
        verdicts: Verdicts,
    ) -> None:
        self._kernel = kernel
        self._registry = registry
        self._observer = observer
        self._engine = engine
        self._responder = responder
        self._holds = holds
        self._metrics = metrics
        self._limits = limits
        self._gate = gate
        self._verdicts = verdicts
        self._crowded: set[str] = set()
        self._gate_trouble = ""
        self._silent: set[str] = set()
        """Sessions of which it was told that nobody answers for their files."""
        # What was lost while nobody was there to tell of it is news.
        self._lost = kernel.lost_told() | {"judge": 0}
        self._over: dict[str, _Flood] = {}
        """Session id -> as far as it was told."""
        self._gone: set[str] = set()
        self._asked: dict[str, tuple[int, float]] = {}
        self._rule_errors = 0
        self._forgotten = 0
        self._late = gate.tally.late
        metrics.build.info({"version": monitor.__version__, "tier": kernel.tier.value})

    def look(self) -> None:
        """One round."""
        self._kernel.rest()
        programs = self._kernel.programs()
        self._watch_losses()
        self._watch_budgets()
        self._watch_programs(programs)
        self._watch_gate()
        self._watch_files()
        for live in self._registry.live():
            self._watch_answers(live)
            self._watch_hold(live)
            self._responder.confirm_late(live)
        self._continue_the_judged()
        self._set_gauges(programs)

    # Losses -------------------------------------------------------------------------------------

    def _watch_losses(self) -> None:
        lost = self._kernel.lost() | {"judge": self._observer.unjudged}
        new = {hook: n - self._lost[hook] for hook, n in lost.items() if n > self._lost[hook]}
        self._lost = lost
        for hook, count in new.items():
            self._metrics.events_lost.labels(hook).inc(count)
        new.pop("budget", 0)  # not lost: see `_watch_budgets`
        too_many = sum(new.values()) >= self._limits.losses
        for live in self._registry.live():
            if too_many and self._fails_closed:
                self._responder.own_stop(BLIND, live, {"Lost": new})
            elif new:
                self._responder.own_alert(EVENTS_LOST, live, {"Lost": new})
        self._kernel.tell_lost(lost)

    def _watch_budgets(self) -> None:
        known, self._over = self._over, {}
        now = time.monotonic()
        for live in self._registry.live():
            told = known.get(live.id, _Flood())
            over, held_back = self._kernel.over_budget(live.slot), live.held_back_ns
            news = {
                "NotLookedAt": over - told.over,
                "HeldBackMs": (held_back - told.held_back_ns) // 10**6,
            }
            if any(news.values()) and now - told.when >= _TOLD_AGAIN_S:
                self._responder.own_alert(FLOOD, live, news)
                told = _Flood(over, held_back, now)
            self._over[live.id] = told

    @property
    def _fails_closed(self) -> bool:
        return self._limits.fail_mode is FailMode.CLOSED

    def _watch_programs(self, programs: dict[str, bool]) -> None:
        gone = {name for name, there in programs.items() if not there}
        for program in gone - self._gone:
            for live in self._registry.live():
                act = self._responder.own_stop if self._fails_closed else self._responder.own_alert
                act(PROGRAM_GONE, live, {"Program": program})
        self._gone = gone

    def _watch_gate(self) -> None:
        """A gate that is gone has no marks: until there is another, the kernel side holds alone."""
        trouble, before = self._gate.trouble(), self._gate_trouble
        self._gate_trouble = trouble
        if not trouble:
            return
        with suppress(CaptureError):  # `Gate.off` says why; the next round tries again
            self._gate.start()
        if trouble == before:
            return
        _log.error("gate.gone", why=trouble, gate=self._gate.off or "started again")
        for live in self._registry.live():
            self._responder.own_alert(GATE_GONE, live, {"Trouble": trouble})

    def _watch_files(self) -> None:
        """Of a session's roots not every watched file has its inode in the kernel: told once."""
        left_out = self._verdicts.left_out()
        for live in self._registry.live():
            if live.slot in left_out and live.id not in self._crowded:
                self._crowded.add(live.id)
                self._responder.own_alert(FILES_LEFT_OUT, live, {"Files": left_out[live.slot]})

    def _watch_answers(self, live: LiveSession) -> None:
        """What is served by the session itself may stay a secret of its own, and keep others waiting."""
        if not live.unanswered:
            return
        if self._fails_closed and live.mode is not Mode.OBSERVE:
            self._responder.own_stop(UNANSWERED, live, {})
        elif live.id not in self._silent:
            self._responder.own_alert(UNANSWERED, live, {})
            self._silent.add(live.id)
        live.unanswered = False  # when it is stopped: until then the pipeline holds it back

    # Holds --------------------------------------------------------------------------------------

    def _watch_hold(self, live: LiveSession) -> None:
        """A candidate that is neither answered nor overtaken by a later answer is overdue.

        So is one that nobody will answer, whatever others get: for as long as it waits, none of them goes on.
        """
        waiting = self._holds.waiting(live.slot)
        now = time.monotonic()
        unjudged, live.unjudged = live.unjudged, 0
        if not waiting:
            self._asked.pop(live.id, None)
            return
        answered, since = self._asked.get(live.id, (-1, now))
        if answered != self._holds.answered(live.slot):
            since = now
        self._asked[live.id] = (self._holds.answered(live.slot), since)
        given_up = unjudged or self._holds.unanswerable(live.slot)
        if now - since < self._limits.hold_timeout_s and not given_up:
            return
        del self._asked[live.id]
        fields = {"Candidates": waiting, "FailMode": self._limits.fail_mode.value}
        if self._fails_closed:
            self._holds.decide_all(live.slot, Answer.FORBID)
            self._responder.own_stop(VERDICT_LATE, live, fields)
        else:
            self._holds.decide_all(live.slot, Answer.LET)
            self._responder.uncontain(live)
            self._responder.own_alert(VERDICT_LATE, live, fields)
        self._holds.answer_all(live.slot)

    def _continue_the_judged(self) -> None:
        """Processes that nobody else continues, once all that they did is judged."""
        silent: set[int] = set()
        for hold in self._holds.stopped():
            live = self._registry.live_in(hold.slot)
            if (
                live is not None
                and live.state is State.RUNNING
                and self._is_judged(hold)
                and not self._holds.waiting(hold.slot)
                and self._responder.let_go(live, hold.pid)
            ):
                silent |= {hold.slot} if hold.reason is Reason.SILENCE else set()
        for slot in silent:
            if (live := self._registry.live_in(slot)) is not None:
                self._responder.own_alert(SILENCE, live, {})

    def _is_judged(self, hold: Hold) -> bool:
        """With `fail_mode` open so is what nobody judged in time: the pipeline may be what hangs."""
        if self._registry.has_seen(hold.ktime_ns):
            return True
        waits_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - hold.ktime_ns
        return not self._fails_closed and waits_ns > self._limits.hold_timeout_s * 1e9

    # Gauges -------------------------------------------------------------------------------------

    def _set_gauges(self, programs: dict[str, bool]) -> None:
        metrics = self._metrics
        states = [s.state for s in self._registry.live()]
        for state in State:
            metrics.sessions.labels(state.value).set(states.count(state))
        metrics.programs_expected.set(len(programs))
        metrics.programs_attached.set(sum(programs.values()))
        metrics.rules_loaded.set(len(self._engine.ruleset.rules))
        errors = sum(self._engine.errors.values())
        metrics.rule_errors.inc(errors - self._rule_errors)
        self._rule_errors = errors
        forgotten = self._engine.evicted
        metrics.beat_age_seconds.set(self._kernel.beat_age_s())
        late = self._gate.tally.late
        metrics.opens_late.inc(late - self._late)
        self._late = late
        metrics.groups_forgotten.inc(forgotten - self._forgotten)
        self._forgotten = forgotten
