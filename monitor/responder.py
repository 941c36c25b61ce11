# SPDX-License-Identifier: Apache-2.0
"""From a match to a stopped session and a recorded alert, in that order; it decides nothing itself.

The pipeline's thread does what must be done at once: cut, freeze, confirm, queue the alert. Evidence
and the kill follow on a thread of their own, while the session stands still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from msgspec.structs import replace
from ulid import ULID

from monitor.alerts import (
    Action,
    ActionRecord,
    Alert,
    Outcome,
    Response,
    Rule,
    RuleRef,
    SessionRef,
)
from monitor.casebook import Casebook
from monitor.errors import EstopError
from monitor.events import CgroupMoved, Event, Verdict
from monitor.fields import Fact
from monitor.incidents import Resolution
from monitor.metrics import Metrics
from monitor.record.sentence import sentence, shown
from monitor.record.store import Store
from monitor.response.evidence import collect
from monitor.response.grants import Grants
from monitor.response.holdback import HeldBack
from monitor.response.holds import Answer, Holds
from monitor.response.killswitch import KillSwitch
from monitor.response.policy import Decision, Disarmer, decide, strongest
from monitor.response.standing import StopReport
from monitor.sessions.live import LiveSession, now_text
from monitor.sessions.observer import Observation
from monitor.stops import Stops
from monitor.subjects import Mode, State

_log = structlog.get_logger()

_REFUSED = "the act was refused: it did not happen"
_TRIED = {Action.FROZEN, Action.STOPPING, Action.FAILED}
_REFUSING = {Action.STOPPING, Action.ALREADY_STOPPED, Action.DENIED}
_BEFORE_THE_STOP = ("held", "received", "matched")


class Responder:
    """One for the monitor. `respond` belongs to the pipeline's thread, `act` to anybody."""

    def __init__(
        self,
        killswitch: KillSwitch,
        disarmer: Disarmer,
        store: Store,
        metrics: Metrics,
        egress_bytes: Callable[[int], tuple[int, int]],
        holds: Holds,
        grants: Grants,
        casebook: Casebook,
    ) -> None:
        self.disarmer = disarmer
        self._grants = grants
        self._casebook = casebook
        self._holds = holds
        self._killswitch = killswitch
        self._store = store
        self._egress_bytes = egress_bytes
        self._stops = Stops(killswitch, store, metrics, egress_bytes, casebook)
        self._held_back = HeldBack(killswitch, holds)
        self._workers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="evidence")

    def contain(self, live: LiveSession) -> None:
        """Begin to freeze, and judge meanwhile."""
        if live.state is State.RUNNING and self._killswitch.may_run(live):
            # It ended; or it may not be stopped, which the stop will say.
            with suppress(EstopError, OSError):
                self._killswitch.contain(live)

    def hold_back(self, live: LiveSession, *, busy: bool = True) -> None:
        """It does more than can be looked at, or what cannot, and stands still until it was: `let_go_on`."""
        if live.id in self._held_back:
            return
        # Contained for one act, it would go on with the answer to that.
        free = self._killswitch.may_run(live) or self._killswitch.is_contained(live)
        if live.state is State.RUNNING and free and live.mode is not Mode.OBSERVE:
            self._held_back.add(live, busy=busy)

    def let_go_on(self, unread: Container[int] = (), *, at_once: bool = False) -> bool:
        """Who was held back may go on, unless he is in one of these slots; True while anybody is."""
        return self._held_back.let_go_on(unread, at_once=at_once)

    def uncontain(self, live: LiveSession) -> None:
        """Go on, unless it was stopped meanwhile."""
        with suppress(OSError):  # the session ended
            self._killswitch.uncontain(live)

    def forbid(self, event: Event) -> None:
        """The act that waits must not happen, whenever its thread goes on."""
        self._holds.decide(event.tid, event.held_ns, Answer.FORBID)

    def answer(self, live: LiveSession, event: Event) -> None:
        """The candidate is judged: unless that stopped the session, it goes on as if nothing was."""
        if Verdict.BEFORE in event.verdict:
            self._holds.decide(event.tid, event.held_ns, Answer.LET)
        self._holds.answer(
            live.slot, event.held_ns
        )  # before who waits is looked for: see bpf/verdict.h
        with suppress(OSError):  # the session ended
            self.let_go(live, event.tgid)

    def refuses(self, observation: Observation, matches: Mapping[str, tuple[Rule, Fact]]) -> bool:
        """Must an act that waits for our word not happen?"""
        decided = self._decide_all(observation, matches.values(), refused=True)
        return any(decision.action in _REFUSING for _, _, decision in decided)

    def _decide_all(
        self, observation: Observation, matches: Iterable[tuple[Rule, Fact]], *, refused: bool
    ) -> list[tuple[Rule, Fact, Decision]]:
        snapshot = observation.live.snapshot()
        stopping = self._killswitch.is_stopped(observation.live)
        return [
            (
                rule,
                fact,
                decide(
                    rule,
                    snapshot,
                    disarmed=self.disarmer.is_disarmed(rule.id),
                    refused=refused,
                    stopping=stopping,
                    grant=self._grants.covering(
                        snapshot.id, rule.id, (f.fields for f in (fact, *observation.facts))
                    ),
                ),
            )
            for rule, fact in matches
        ]

    def sent_bytes(self, slot: int) -> int:
        """What has left the session by now."""
        return self._egress_bytes(slot)[0]

    def respond(
        self, observation: Observation, matches: list[tuple[Rule, Fact]], received_ns: int
    ) -> None:
        """Carry out the strongest response, then record an alert for every match."""
        live, event = observation.live, observation.event
        matched_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if isinstance(event, CgroupMoved):
            self._killswitch.recall(live, event.target)
        refused = Verdict.REFUSED in event.verdict
        decisions = self._decide_all(observation, matches, refused=refused)
        stopping = [(r, d) for r, _, d in decisions if d.action is Action.STOPPING]
        chosen = strongest([d for _, d in stopping])
        steps = {"received": received_ns, "matched": matched_ns}
        if event.held_ns:
            steps["held"] = event.held_ns
        outcome = begun = None
        if chosen is not None:
            outcome, begun = self._stops.begin(live, event.egress_bytes, steps)
            if refused:
                outcome = replace(outcome, detail=f"{_REFUSED}; {outcome.detail}".rstrip("; "))
            for rule, _ in stopping:
                self.disarmer.stopped(rule.id, live.id, matched_ns)
        timings = {name: at - event.ktime_ns for name, at in steps.items()}
        alerts = [
            self._alert(observation, rule, fact, decision, outcome, timings)
            for rule, fact, decision in decisions
        ]
        self._stops.count(alerts, timings)
        for alert in alerts:
            self._store.save_alert(alert)
        if chosen is not None:
            cause = next(a for a, (_, _, d) in zip(alerts, decisions, strict=True) if d is chosen)
            self._stops.open_incident(live, cause, sentence(cause))
            stopped = [a for a in alerts if a.outcome.action in _TRIED]
            kill = chosen.response is Response.KILL
            self._workers.submit(self._follow, live, begun, stopped, event.ktime_ns, kill=kill)

    def _follow(
        self,
        live: LiveSession,
        begun: StopReport | None,
        alerts: list[Alert],
        act_ns: int,
        *,
        kill: bool,
    ) -> None:
        """On a worker: what the pipeline's thread did not wait for."""
        try:
            alerts = self._stops.confirmed(live, begun, alerts, act_ns)
        except Exception:  # noqa: BLE001 - a kill must follow all the same
            _log.exception("stop.unconfirmed", session=live.id)
        self._finish(live, alerts, act_ns, kill=kill)

    def _alert(
        self,
        observation: Observation,
        rule: Rule,
        fact: Fact,
        decision: Decision,
        outcome: Outcome | None,
        timings: dict[str, int],
    ) -> Alert:
        if decision.action is Action.STOPPING and outcome is not None:
            result = outcome
        else:
            result = Outcome(action=decision.action, detail=decision.detail)
            timings = {name: timings[name] for name in _BEFORE_THE_STOP if name in timings}
        return Alert(
            id=str(ULID()),
            time=now_text(),
            session=SessionRef(id=observation.live.id, name=observation.live.name),
            rule=RuleRef(
                id=rule.id, title=rule.title, level=rule.level, author=rule.author, tags=rule.tags
            ),
            response=rule.response,
            outcome=result,
            event={
                "category": fact.category,
                "ktime_ns": observation.event.ktime_ns,
                "verdict": observation.event.verdict.word,
                "fields": _shown(fact, observation.facts),
            },
            timings_ns=timings,
        )

    def _finish(self, live: LiveSession, alerts: list[Alert], act_ns: int, *, kill: bool) -> None:
        """On a worker: evidence while everything stands still, then the kill if one was asked for."""
        try:
            self._conclude(live, alerts, act_ns, kill=kill)
        except Exception:  # noqa: BLE001 - of which nobody else would hear
            _log.exception("stop.unfinished", session=live.id)

    def _conclude(self, live: LiveSession, alerts: list[Alert], act_ns: int, *, kill: bool) -> None:
        evidence = collect(live.cgroup, live.history, live.tree.family())
        extra = {"evidence": time.clock_gettime_ns(time.CLOCK_BOOTTIME) - act_ns}
        outcome = None
        if kill:
            report = self._kill(live, alerts)
            extra |= {name: at - act_ns for name, at in report.steps_ns.items()}
            outcome = Action.KILLED if report.done else Action.FAILED
        for alert in alerts:
            result = alert.outcome
            if outcome is not None:
                result = replace(result, action=outcome)
            # The first freeze's times stand; the kill freezes again, which is then no news.
            timings = {**extra, **alert.timings_ns}
            self._store.save_alert(
                replace(alert, outcome=result, timings_ns=timings, evidence=evidence)
            )

    def _kill(self, live: LiveSession, alerts: Sequence[Alert]) -> StopReport:
        who = "rule " + ", ".join(alert.rule.title for alert in alerts)
        with self._casebook.deciding(live.id, Resolution.KILLED, who=who):
            try:
                report = self._killswitch.kill(live)
            except (EstopError, OSError) as error:
                _log.error("kill.failed", session=live.id, error=str(error))
                return StopReport(done=False, steps_ns={}, detail=str(error))
            if report.done:
                self._store.save_session(live.snapshot())
                self._casebook.resolved(live.id, Resolution.KILLED)
        return report

    def act(self, live: LiveSession, verb: str, *, who: str, why: str) -> ActionRecord:
        """A person freezes, resumes or kills; idempotent, and always recorded."""
        start_ns, asked = time.clock_gettime_ns(time.CLOCK_BOOTTIME), now_text()
        session = SessionRef(id=live.id, name=live.name)
        if verb == "kill":
            said = f"{who} killed {shown(live.name)}" + (f": {shown(why)}" if why else ".")
            self._casebook.stopped_by(session, who, said)
        done, resolution = _AFTER[verb]
        with self._casebook.deciding(live.id, resolution, who=who, why=why):
            report = self._carry_out(live, verb)
        record = ActionRecord(
            id=str(ULID()),
            time=asked,
            session=session,
            verb=verb,
            who=who,
            why=why,
            outcome=Outcome(action=done if report.done else Action.FAILED, detail=report.detail),
            timings_ns={name: at - start_ns for name, at in report.steps_ns.items()},
        )
        self._store.save_action(record)
        said = f"{who} froze {shown(live.name)}" + (f": {shown(why)}" if why else ".")
        first = verb == "freeze" and report.done and not self._casebook.is_open(live.id)
        evidence = collect(live.cgroup, live.history, live.tree.family()) if first else None
        with self._killswitch.turn(live) as stopped:
            if first and stopped:
                self._casebook.stopped_by(session, who, said, evidence)
            self._store.save_session(live.snapshot())
        return record

    def _carry_out(self, live: LiveSession, verb: str) -> StopReport:
        if verb == "freeze":
            return self._killswitch.freeze(live)
        if verb == "resume":  # what it is stopped for from then on is another incident
            over = partial(self._casebook.resolved, live.id, Resolution.RESUMED)
            return self._killswitch.resume(live, decided=over)
        report = self._killswitch.kill(live)
        if report.done:
            self._casebook.resolved(live.id, Resolution.KILLED)
        return report

    def let_go(self, live: LiveSession, pid: int) -> bool:
        """Continue a process of which all is judged; False if its session is stopped.

        It stands still for as long as something else of its session waits for an answer, and the
        session for as long as it is held back.
        """
        return self._killswitch.release(live, pid, thaw=live.id not in self._held_back)

    def confirm_late(self, live: LiveSession) -> None:
        """Does it stand still by now, when everybody has ceased to wait for that?"""
        self._stops.confirm_late(live)

    def own_alert(self, rule: Rule, live: LiveSession, fields: dict[str, Any]) -> None:
        """An alert of the monitor about itself: events lost, a knock at its door."""
        self._own(rule, live, fields, Outcome(action=Action.ALERTED), {})

    def own_stop(self, rule: Rule, live: LiveSession, fields: dict[str, Any]) -> None:
        """`fail_mode` is closed, and the session cannot be judged: it is stopped, if it may be."""
        stopped = live.state is not State.RUNNING or self._killswitch.is_stopped(live)
        if live.mode is Mode.OBSERVE or stopped:
            self.own_alert(rule, live, fields)
            return
        steps: dict[str, int] = {}
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        outcome, begun = self._stops.begin(live, live.sent_bytes, steps)
        timings = {n: at - now_ns for n, at in steps.items()}
        alert = self._own(rule, live, fields, outcome, timings)
        self._stops.open_incident(live, alert, f"{rule.title}: {sentence(alert)}")
        self._workers.submit(self._stops.confirmed, live, begun, [alert], now_ns)

    def _own(
        self,
        rule: Rule,
        live: LiveSession,
        fields: dict[str, Any],
        outcome: Outcome,
        timings: dict[str, int],
    ) -> Alert:
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        alert = Alert(
            id=str(ULID()),
            time=now_text(),
            session=SessionRef(id=live.id, name=live.name),
            rule=RuleRef(id=rule.id, title=rule.title, level=rule.level, author=rule.author),
            response=rule.response,
            outcome=outcome,
            event={"category": rule.category, "ktime_ns": now_ns, "fields": fields},
            timings_ns=timings,
        )
        self._stops.count([alert], {"matched": 0})
        self._store.save_alert(alert)
        return alert

    def close(self) -> None:
        """Finish what was begun: evidence that is being taken is kept."""
        self._workers.shutdown(wait=True)


def _shown(fact: Fact, facts: Sequence[Fact]) -> dict[str, Any]:
    """The event as it happened; `MatchedAs` holds the other spelling under which a rule knew it.

    `Correlation` holds what else a correlation is made of.
    """
    plain = next((f for f in facts if f.category == fact.category), fact)
    added = {k: v for k, v in fact.fields.items() if k == "Correlation"}
    other = {k: v for k, v in fact.fields.items() if plain.fields.get(k) != v and k not in added}
    return {**plain.fields, **added, **({"MatchedAs": other} if other else {})}


_AFTER = {
    "freeze": (Action.FROZEN, Resolution.NONE),
    "resume": (Action.RESUMED, Resolution.RESUMED),
    "kill": (Action.KILLED, Resolution.KILLED),
}
