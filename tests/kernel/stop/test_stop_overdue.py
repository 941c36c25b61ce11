# SPDX-License-Identifier: Apache-2.0
"""What becomes of a session while the pipeline hangs: whoever looks now and then decides."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from calls import opening
from laboratory import until
from states import state_of

from monitor.config import FailMode
from monitor.housekeeper import Housekeeper, Limits
from monitor.lowered import Act, Lowered, Watch, Where
from monitor.metrics import Metrics
from monitor.response.verdicts import Verdicts
from monitor.subjects import State


class Hanging:
    """One session, of which nothing is judged any more."""

    def __init__(self, live):
        self._live = live

    def live(self):
        return [self._live]

    def live_in(self, slot):
        return self._live if slot == self._live.slot else None

    def has_seen(self, ktime_ns):
        return False


class Gate:
    """One at which nobody asks."""

    pid = 0
    tally = SimpleNamespace(late=0)

    def trouble(self):
        return ""


@pytest.fixture
def housekeeper(kernel, live, responder, holds):
    def made(fail_mode):
        engine = SimpleNamespace(ruleset=SimpleNamespace(rules=()), errors={}, evicted=0)
        observer = SimpleNamespace(unjudged=0)
        limits = Limits(fail_mode, hold_timeout_s=0.2, losses=10**9)
        return Housekeeper(
            kernel,
            Hanging(live),
            observer,
            engine,
            responder,
            holds,
            Metrics(),
            limits,
            Gate(),
            Verdicts(kernel),
        )

    return made


@pytest.fixture
def held(inside, puppet, verdicts, scratch):
    """A process that waits for a verdict."""
    watch = Watch(Where.EXACT, str(scratch / "held"), Act.CREATE, Act(0), frozenset())
    verdicts.replace(Lowered(watches=(watch,)))
    puppet.become(*opening(puppet, scratch / "held", os.O_CREAT))
    assert until(lambda: state_of(puppet.pid) == "T")
    return puppet


def test_with_fail_mode_open_who_was_not_judged_in_time_goes_on_though_the_pipeline_hangs(
    live, held, housekeeper, holds
):
    keeper = housekeeper(FailMode.OPEN)
    keeper.look()
    assert state_of(held.pid) == "T"
    assert until(lambda: keeper.look() or holds.of(held.pid) is None, 3)
    assert held.answer() >= 0
    assert live.state is State.RUNNING


def test_with_fail_mode_closed_who_was_not_judged_in_time_stays_stopped(
    live, held, housekeeper, holds
):
    keeper = housekeeper(FailMode.CLOSED)
    assert until(lambda: keeper.look() or live.state is State.FROZEN, 3)
    keeper.look()
    assert holds.of(held.pid)


def test_an_act_that_nobody_was_told_of_does_not_wait_for_as_long_as_others_are_answered(
    live, housekeeper, holds, kernel
):
    keeper = housekeeper(FailMode.CLOSED)
    kernel.map("candidates").set((live.slot,), (1,))
    kernel.map("unsent").set((live.slot,), (1,))
    keeper.look()
    assert live.state is State.FROZEN
    assert holds.waiting(live.slot) == 0
    assert not holds.unanswerable(live.slot)


def test_so_does_one_that_broke_the_stages(live, housekeeper, holds, kernel):
    keeper = housekeeper(FailMode.OPEN)
    kernel.map("candidates").set((live.slot,), (1,))
    live.unjudged = 1
    keeper.look()
    assert live.state is State.RUNNING
    assert holds.waiting(live.slot) == 0
    kernel.map("candidates").set((live.slot,), (2,))
    keeper.look()
    assert holds.waiting(live.slot) == 1  # decided about once
