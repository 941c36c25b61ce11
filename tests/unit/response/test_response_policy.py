# SPDX-License-Identifier: Apache-2.0
"""What is to be done, for every rule, mode and state; and when a rule loses its teeth."""

from __future__ import annotations

import itertools

import pytest

from monitor.alerts import Action, Level, Response, Rule
from monitor.response.policy import Decision, Disarmer, decide, strongest
from monitor.subjects import Mode, Origin, Session, State

LOG, ALERT, DENY, ASK, FREEZE, KILL = Response
RUNNING, HELD, FROZEN, KILLED, EXITED, LOST = State


def rule(response):
    return Rule(id="r", title="", level=Level.HIGH, response=response, category="file_event")


def session(mode=Mode.ENFORCE, state=RUNNING):
    return Session(
        id="s", name="n", state=state, mode=mode, origin=Origin.LAUNCHED, cgroup="/x", root_pid=1,
        uid=0,
    )  # fmt: skip


# rule's response, state -> what is tried, what the alert says; in `enforce`, armed
TABLE = {
    (LOG, RUNNING): (LOG, Action.LOGGED),
    (ALERT, RUNNING): (ALERT, Action.ALERTED),
    (DENY, RUNNING): (FREEZE, Action.STOPPING),  # the act was not refused: see below
    (DENY, FROZEN): (ALERT, Action.ALREADY_STOPPED),
    (ASK, RUNNING): (ASK, Action.STOPPING),
    (ASK, HELD): (ASK, Action.STOPPING),
    (ASK, FROZEN): (ALERT, Action.ALREADY_STOPPED),
    (FREEZE, RUNNING): (FREEZE, Action.STOPPING),
    (KILL, RUNNING): (KILL, Action.STOPPING),
    (FREEZE, HELD): (FREEZE, Action.STOPPING),
    (KILL, HELD): (KILL, Action.STOPPING),
    (FREEZE, LOST): (FREEZE, Action.STOPPING),
    (KILL, LOST): (KILL, Action.STOPPING),
    (LOG, FROZEN): (LOG, Action.LOGGED),
    (ALERT, FROZEN): (ALERT, Action.ALERTED),
    (FREEZE, FROZEN): (ALERT, Action.ALREADY_STOPPED),
    (KILL, FROZEN): (KILL, Action.STOPPING),
    (FREEZE, KILLED): (ALERT, Action.ALREADY_STOPPED),
    (KILL, KILLED): (ALERT, Action.ALREADY_STOPPED),
    (FREEZE, EXITED): (ALERT, Action.ALREADY_STOPPED),
    (KILL, EXITED): (ALERT, Action.ALREADY_STOPPED),
}


@pytest.mark.parametrize(("case", "expected"), TABLE.items(), ids=lambda c: "-".join(map(str, c)))
def test_an_armed_rule_in_an_enforced_session(case, expected):
    response, state = case
    decision = decide(rule(response), session(state=state), disarmed=False)
    assert (decision.response, decision.action) == expected


@pytest.mark.parametrize("response", Response)
@pytest.mark.parametrize("state", State)
def test_a_session_that_is_being_stopped_is_stopped_once(response, state):
    """Its freeze is asked for and not confirmed: nothing but a kill adds to that."""
    decision = decide(rule(response), session(state=state), disarmed=False, stopping=True)
    stopped = decide(rule(response), session(state=FROZEN), disarmed=False)
    if state not in {KILLED, EXITED}:
        assert (decision.response, decision.action) == (stopped.response, stopped.action)
    else:
        assert decision.action is not Action.STOPPING


@pytest.mark.parametrize(
    ("response", "action"),
    [
        (LOG, Action.LOGGED),
        (ALERT, Action.ALERTED),
        (DENY, Action.WOULD_DENY),
        (ASK, Action.WOULD_FREEZE),
        (FREEZE, Action.WOULD_FREEZE),
        (KILL, Action.WOULD_KILL),
    ],
)
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("disarmed", [False, True])
def test_an_observed_session_is_told_what_would_have_been_done(response, action, state, disarmed):
    decision = decide(rule(response), session(Mode.OBSERVE, state), disarmed=disarmed)
    assert not decision.response.stops
    assert decision.action is action


@pytest.mark.parametrize("response", Response)
@pytest.mark.parametrize("state", State)
def test_a_disarmed_rule_stops_nothing(response, state):
    decision = decide(rule(response), session(state=state), disarmed=True)
    assert not decision.response.stops
    if response.stops:
        assert decision.action is Action.DISARMED
        assert "disarmed" in decision.detail


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("mode", Mode)
def test_what_the_kernel_refused_is_told_and_the_session_goes_on(state, mode):
    decision = decide(rule(DENY), session(mode, state), disarmed=False, refused=True)
    assert (decision.response, decision.action) == (DENY, Action.DENIED)


def test_a_stronger_rule_stops_the_session_though_the_act_was_refused():
    decision = decide(rule(FREEZE), session(), disarmed=False, refused=True)
    assert decision.action is Action.STOPPING


def test_the_strongest_decision_is_carried_out():
    decisions = [
        Decision(ALERT, Action.ALERTED),
        Decision(KILL, Action.STOPPING),
        Decision(FREEZE, Action.STOPPING),
    ]
    for order in itertools.permutations(decisions):
        assert strongest(order).response is KILL
    assert strongest([]) is None


@pytest.fixture
def disarmer():
    return Disarmer(limit=3, window_ns=100)


def test_a_rule_that_stopped_too_many_sessions_is_disarmed(disarmer):
    for number, now in enumerate((0, 50, 100)):
        assert not disarmer.is_disarmed("r")
        disarmer.stopped("r", f"s{number}", now)
    assert disarmer.is_disarmed("r")
    assert disarmer.disarmed == ("r",)
    assert not disarmer.is_disarmed("other")


def test_one_session_stopped_often_is_one(disarmer):
    for now in range(10):
        disarmer.stopped("r", "s", now)
    assert not disarmer.is_disarmed("r")


def test_stops_outside_of_the_window_do_not_count(disarmer):
    for number, now in enumerate((0, 50, 101)):
        disarmer.stopped("r", f"s{number}", now)
    assert not disarmer.is_disarmed("r")


def test_rules_are_counted_each_for_itself(disarmer):
    for number in range(3):
        disarmer.stopped(f"r{number}", f"s{number}", 0)
    assert disarmer.disarmed == ()


def test_a_rule_stays_disarmed_until_somebody_arms_it(disarmer):
    for number in range(3):
        disarmer.stopped("r", f"s{number}", 0)
    disarmer.stopped("r", "s9", 10**9)
    assert disarmer.is_disarmed("r")
    disarmer.arm("r")
    assert not disarmer.is_disarmed("r")
    disarmer.stopped("r", "s1", 10**9)
    assert not disarmer.is_disarmed("r")
