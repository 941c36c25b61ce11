# SPDX-License-Identifier: Apache-2.0
"""Who stands still until he was looked at goes on when all of it was, and no sooner or later."""

from __future__ import annotations

import time

import pytest
from laboratory import until
from stages import Idle, Ring, exited, joined

from monitor.events import Event, Verdict, View
from monitor.response import holdback


def candidate(live):
    """An act that a rule might forbid, and that is innocent."""
    return Event(
        ktime_ns=0, egress_bytes=0, slot=live.slot, tgid=live.root_pid, tid=live.root_pid, uid=0,
        view=View(0, 0), cut=False, verdict=Verdict.CANDIDATE,
    )  # fmt: skip


@pytest.fixture
def asked(kernel, live):
    """So many candidates of the session were counted."""
    return lambda count: kernel.map("candidates").set((live.slot,), (count,))


def test_who_is_innocent_of_one_act_stands_still_until_the_other_is_judged(
    live, responder, killswitch, holds, asked
):
    asked(2)
    responder.contain(live)
    assert until(lambda: killswitch.is_frozen(live))
    responder.answer(live, candidate(live))
    assert killswitch.is_frozen(live)
    assert not killswitch.may_run(live)
    responder.answer(live, candidate(live))
    assert not killswitch.is_frozen(live)
    assert holds.waiting(live.slot) == 0


def test_who_does_too_much_is_not_let_go_on_by_an_answer(live, responder, killswitch, asked):
    asked(1)
    responder.hold_back(live)
    assert until(lambda: killswitch.is_frozen(live))
    responder.answer(live, candidate(live))
    assert killswitch.is_frozen(live)
    responder.let_go_on(at_once=True)
    assert not killswitch.is_frozen(live)


class Flood(Ring):
    """A ring that a session which is only observed keeps full; the other one adds to it until `still`."""

    flooded = True

    def __init__(self, slot, still):
        self.slot, self.still = slot, still

    def read(self, timeout_ms):
        own = [] if self.still() else [exited(slot=self.slot)] * 16
        return [exited(slot=1)] * 48 + own


class Sessions(Idle):
    """One of them."""

    def __init__(self, live):
        super().__init__()
        self.live = live

    def live_in(self, slot):
        return self.live if slot == self.live.slot else None


@pytest.fixture
def flooded(live, responder, store):
    def made(still):
        return joined(Flood(live.slot, still), Sessions(live), None, responder, store)

    return made


def test_who_was_held_back_goes_on_once_he_was_looked_at_whoever_else_floods(
    live, killswitch, flooded
):
    pipeline = flooded(lambda: not killswitch.may_run(live))
    pipeline.step()
    assert not killswitch.may_run(live)
    pipeline._source.still = lambda: True
    assert until(lambda: pipeline.step() or killswitch.may_run(live), 0.5)
    assert not killswitch.is_frozen(live)


def test_nobody_is_held_back_for_longer_than_the_bound_and_his_time_is_told_meanwhile(
    live, killswitch, flooded, monkeypatch
):
    monkeypatch.setattr(holdback, "_LONGEST_NS", 200_000_000)
    pipeline = flooded(lambda: False)
    pipeline.step()
    start, told = time.monotonic(), set()
    while not killswitch.may_run(live) and time.monotonic() - start < 5:
        pipeline._source.flooded = False  # or he is held back again at once
        pipeline.step()
        told.add(live.held_back_ns)
    assert 0.1 < time.monotonic() - start < 1
    assert len(told) > 2
    assert live.held_back_ns >= 200_000_000
