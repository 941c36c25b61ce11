# SPDX-License-Identifier: Apache-2.0
"""A process is held for what any of its threads did, and goes on when all of that is judged."""

from __future__ import annotations

import time

import pytest
from calls import opening
from held import held_by, watching
from states import state_of
from tiers import PATIENCE

from monitor.events import Verdict
from monitor.lowered import Act, Where

_THREADS, _ROUNDS = 8, 400
_AT_REST_S = 10.0 * PATIENCE


@pytest.fixture
def event(inside, puppet, verdicts, scratch):
    """Of what the puppet is held for."""
    secret = scratch / "secret"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ)
    return held_by(inside, puppet, *opening(puppet, secret))


def test_the_answer_to_one_act_does_not_continue_who_is_held_for_another(
    live, puppet, kernel, responder, event
):
    kernel.map("candidates").set((live.slot,), (2,))  # as another thread of it would have it
    responder.answer(live, event)
    assert state_of(puppet.pid) == "T"
    responder.answer(live, event)
    assert puppet.answer() >= 0


def test_the_answer_to_one_session_does_not_continue_who_waits_in_another(
    live, puppet, kernel, responder, event
):
    """A packet may be looked at while anybody's process runs."""
    held = kernel.map("held")
    row = held.get(puppet.pid)
    held.set((puppet.pid,), (live.slot + 1, *row[1:]))
    responder.answer(live, event)
    assert state_of(puppet.pid) == "T"
    assert held.get(puppet.pid) is not None
    held.set((puppet.pid,), row)
    assert responder.let_go(live, puppet.pid)
    assert puppet.answer() >= 0


def test_threads_that_are_held_all_the_time_come_to_their_end(
    live, inside, responder, verdicts, holds, scratch
):
    """One is held while another is let go; whoever is stopped then must still be found."""
    watching(verdicts, Where.BELOW, scratch, Act.CREATE)
    crowd = inside.start("crowd", str(scratch), str(_THREADS), str(_ROUNDS))
    moved, judged = time.monotonic(), 0
    while crowd.poll() is None and time.monotonic() - moved < _AT_REST_S:
        for event in inside.events():
            if Verdict.CANDIDATE in event.verdict:
                responder.answer(live, event)
                moved, judged = time.monotonic(), judged + 1
    assert crowd.returncode == 0, (
        f"{state_of(crowd.pid)}, {holds.of(crowd.pid)}, {holds.waiting(live.slot)} wait"
    )
    assert judged >= _THREADS
