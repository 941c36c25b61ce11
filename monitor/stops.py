# SPDX-License-Identifier: Apache-2.0
"""A stop from the order to its confirmation, and what is told of it; it does not decide on one."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from msgspec.structs import replace

from monitor.alerts import Action, Alert, Outcome
from monitor.casebook import Casebook
from monitor.errors import EstopError
from monitor.incidents import Resolution
from monitor.metrics import Metrics
from monitor.record.sentence import sentence
from monitor.record.store import Store
from monitor.response.killswitch import KillSwitch
from monitor.response.standing import StopReport
from monitor.sessions.live import LiveSession

_log = structlog.get_logger()

_PATIENCE_NS = 20_000_000
"""How long the pipeline's thread, which others wait for, waits for `frozen`: that takes 0.02 to 4 ms."""


class Stops:
    """One for the monitor; every method may be called from any thread."""

    def __init__(
        self,
        killswitch: KillSwitch,
        store: Store,
        metrics: Metrics,
        egress_bytes: Callable[[int], tuple[int, int]],
        casebook: Casebook,
    ) -> None:
        self._killswitch = killswitch
        self._store = store
        self._metrics = metrics
        self._egress_bytes = egress_bytes
        self._casebook = casebook

    def begin(
        self, live: LiveSession, sent_at_act: int, steps: dict[str, int]
    ) -> tuple[Outcome, StopReport | None]:
        """Cut and freeze; what is not confirmed in 20 ms is for `confirmed`.

        Adds the CLOCK_BOOTTIME of each step to `steps`. There is no report where it was refused or failed.
        """
        try:
            report = self._killswitch.freeze(live, patience_ns=_PATIENCE_NS)
        except (EstopError, OSError) as error:
            _log.error("stop.refused", session=live.id, error=str(error))
            refused = isinstance(error, EstopError)
            action = Action.REFUSED if refused else Action.FAILED
            return Outcome(action=action, detail=str(error)), None
        steps.update(report.steps_ns)
        sent, _ = self._egress_bytes(live.slot)
        outcome = Outcome(
            action=Action.FROZEN if report.done else Action.STOPPING,
            detail=report.detail,
            bytes_out=max(0, sent - sent_at_act),
        )
        return outcome, report

    def open_incident(self, live: LiveSession, cause: Alert, said: str) -> None:
        """Of a stop, which `said` tells of; one that was resumed meanwhile is over at once."""
        with self._killswitch.turn(live) as stopped:
            self._casebook.stopped(cause, said)
            if not stopped and cause.outcome.action is not Action.REFUSED:
                self._casebook.resolved(live.id, Resolution.RESUMED)
            self._store.save_session(live.snapshot())

    def confirmed(
        self, live: LiveSession, begun: StopReport | None, alerts: list[Alert], act_ns: int
    ) -> list[Alert]:
        """On a worker: the alerts of a stop as it came out. `begun`: what was known of it so far."""
        if begun is None or begun.done:
            return alerts
        report = self._killswitch.confirm(live, begun)
        action = Action.FROZEN if report.done else Action.FAILED
        times = {name: at - act_ns for name, at in report.steps_ns.items()}
        now = []
        for alert in alerts:
            detail = alert.outcome.detail.replace(begun.detail, report.detail).rstrip("; ")
            outcome = replace(alert.outcome, action=action, detail=detail)
            now.append(replace(alert, outcome=outcome, timings_ns={**alert.timings_ns, **times}))
            self._store.save_alert(now[-1])
            self._metrics.stops.labels(action).inc()
            self._casebook.confirmed(live.id, alert.id, sentence(alert), sentence(now[-1]))
        if report.done:
            self._metrics.stop_seconds.observe(times["frozen"] / 1e9)
        self.save(live)
        return now

    def confirm_late(self, live: LiveSession) -> None:
        """Does it stand still by now, when everybody has ceased to wait for that?"""
        if self._killswitch.confirm_late(live):
            self.save(live)

    def save(self, live: LiveSession) -> None:
        """Record the session as it is now."""
        with self._killswitch.turn(live):  # or an older state might be recorded last
            self._store.save_session(live.snapshot())

    def count(self, alerts: list[Alert], timings: dict[str, int]) -> None:
        """In the metrics. `timings`: ns since the act."""
        self._metrics.verdict_seconds.observe(timings["matched"] / 1e9)
        if "frozen" in timings:
            self._metrics.stop_seconds.observe(timings["frozen"] / 1e9)
        for alert in alerts:
            self._metrics.alerts.labels(alert.rule.id, alert.response).inc()
            # One that is not confirmed yet is counted when that is known.
            if alert.response.stops and alert.outcome.action is not Action.STOPPING:
                self._metrics.stops.labels(alert.outcome.action).inc()
