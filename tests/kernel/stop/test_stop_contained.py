# SPDX-License-Identifier: Apache-2.0
"""Who stands still until he was looked at goes on when all of it was, and no sooner or later."""

from __future__ import annotations

import pytest
from laboratory import until

from monitor.events import Event, Verdict, View


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
    assert killswitch.is_contained(live)
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
