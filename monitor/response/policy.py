# SPDX-License-Identifier: Apache-2.0
"""What is to be done about a match: a pure decision from the rule, the session and the record.

It acts on nothing. `killswitch.py` acts, and checks again before it does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from monitor.alerts import Action, Response, Rule
from monitor.incidents import Grant
from monitor.subjects import Mode, Session, State


class Decision(msgspec.Struct, frozen=True):
    """`response` is what will be tried; `action` is what the alert says until the outcome is known."""

    response: Response
    action: Action
    detail: str = ""


class Disarmer:
    """Remembers which sessions each rule stopped; a rule that stops too many loses its teeth.

    One bad rule must not be able to stop every agent on the machine: after `limit` different
    sessions within `window_ns` it only alerts, until somebody arms it again.
    """

    def __init__(self, *, limit: int, window_ns: int) -> None:
        self._limit = limit
        self._window_ns = window_ns
        self._stops: dict[str, deque[tuple[int, str]]] = {}
        self._disarmed: dict[str, int] = {}

    def stopped(self, rule: str, session: str, now_ns: int) -> None:
        """Record a stop; the limit-th within the window is the rule's last."""
        stops = self._stops.setdefault(rule, deque())
        stops.append((now_ns, session))
        while stops and now_ns - stops[0][0] > self._window_ns:
            stops.popleft()
        if len({name for _, name in stops}) >= self._limit:
            self._disarmed[rule] = now_ns

    def is_disarmed(self, rule: str) -> bool:
        """Has the rule lost its teeth?"""
        return rule in self._disarmed

    def arm(self, rule: str) -> None:
        """Give the rule its teeth back."""
        self._disarmed.pop(rule, None)
        self._stops.pop(rule, None)

    @property
    def disarmed(self) -> tuple[str, ...]:
        """Ids of rules that only alert now."""
        return tuple(self._disarmed)


_SAID = {Response.LOG: Action.LOGGED, Response.ALERT: Action.ALERTED}
_WOULD = {
    Response.DENY: Action.WOULD_DENY,
    Response.ASK: Action.WOULD_FREEZE,
    Response.FREEZE: Action.WOULD_FREEZE,
    Response.KILL: Action.WOULD_KILL,
}
_STOPPED = {State.FROZEN, State.KILLED, State.EXITED}


def decide(
    rule: Rule,
    session: Session,
    *,
    disarmed: bool,
    refused: bool = False,
    stopping: bool = False,
    grant: Grant | None = None,
) -> Decision:
    """The response to one match. `refused`: the kernel did not let the act happen.

    `stopping`: the session's stop was decided, and is not confirmed: it is cut and being frozen.
    An `ask` is a freeze: whoever is asked resumes or kills. A `deny` whose act happened all the same
    is a broken promise, and stops the session.
    """
    if grant is not None and rule.response.holds:
        detail = f"{grant.who} gave leave until {grant.expires}: {grant.why or 'no reason given'}"
        return Decision(Response.ALERT, Action.GRANTED, detail)
    told = _told(rule.response, refused=refused)
    return told or _stopping(rule.response, session, disarmed=disarmed, stopping=stopping)


def _told(response: Response, *, refused: bool) -> Decision | None:
    """What needs nothing more than to be told."""
    if response in _SAID:
        return Decision(response, _SAID[response])
    if response is Response.DENY and refused:
        return Decision(response, Action.DENIED, "the kernel refused it")
    return None


def _stopping(response: Response, session: Session, *, disarmed: bool, stopping: bool) -> Decision:
    if session.mode is Mode.OBSERVE:
        return Decision(Response.ALERT, _WOULD[response], "the session is only observed")
    if disarmed:
        detail = (
            "the rule stopped too many sessions and is disarmed; a change to it and "
            "`estop rules reload` arms it, or a restart of the monitor"
        )
        return Decision(Response.ALERT, Action.DISARMED, detail)
    stopped = session.state in _STOPPED
    if response is Response.KILL and (session.state is State.FROZEN or (stopping and not stopped)):
        return Decision(Response.KILL, Action.STOPPING)
    if stopped or stopping:
        detail = f"the session is {session.state if stopped else 'being stopped'}"
        return Decision(Response.ALERT, Action.ALREADY_STOPPED, detail)
    if response is Response.DENY:
        return Decision(Response.FREEZE, Action.STOPPING, "the act was not refused")
    return Decision(response, Action.STOPPING)


def strongest(decisions: Sequence[Decision]) -> Decision | None:
    """The one that is carried out when several rules match one event."""
    return max(decisions, key=lambda d: d.response.rank, default=None)
