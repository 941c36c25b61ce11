# SPDX-License-Identifier: Apache-2.0
"""Somebody of the session continues who is held: it is refused, or gets nobody far."""

from __future__ import annotations

import os
import signal

import pytest
from calls import opening
from held import go_on, held_by, judged, watching
from laboratory import until
from states import state_of

from monitor.events import Privileged, Verdict
from monitor.lowered import Act, Where

sent = pytest.mark.usefixtures("nothing_refused")
refused = pytest.mark.tier("lsm")


@pytest.fixture
def held(inside, puppet, verdicts, scratch):
    """A process that waits for the verdict on what it has opened."""
    secret = scratch / "secret"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ)
    held_by(inside, puppet, *opening(puppet, secret))
    return puppet


def continued(inside, held, sibling):
    """What is told of it, once the sender stands still."""
    sibling.become("kill", held.pid, int(signal.SIGCONT))
    event = inside.wait(Privileged)
    assert until(lambda: state_of(sibling.pid) == "T")
    return event


@sent
def test_who_continues_a_held_process_stands_still_too_and_is_told(inside, held, holds):
    sibling = inside.puppet()
    event = continued(inside, held, sibling)
    assert (event.operation, event.args[0], event.tgid) == ("hold_undone", held.pid, sibling.pid)
    assert event.verdict == Verdict.CANDIDATE | Verdict.CERTAIN | Verdict.STOPPED
    assert holds.waiting(inside.slot) == 2
    judged(holds, inside)
    assert go_on(holds, inside, sibling) == 0


@sent
def test_who_was_continued_gets_as_far_as_his_next_call_that_is_looked_at(
    inside, held, holds, scratch
):
    sibling = inside.puppet()
    continued(inside, held, sibling)
    assert held.answer() >= 0  # of the open that he was held for
    held.become(*opening(held, scratch / "taken", os.O_CREAT | os.O_WRONLY))
    assert until(lambda: state_of(held.pid) == "T")
    assert holds.of(held.pid)
    judged(holds, inside)
    assert go_on(holds, inside, held) >= 0
    assert held(*opening(held, scratch / "taken")) >= 0  # all is answered


@sent
def test_who_is_in_no_session_may_continue_and_is_not_told(inside, held, holds):
    os.kill(held.pid, signal.SIGCONT)
    assert held.answer() >= 0
    assert holds.waiting(inside.slot) == 1
    assert inside.events(Privileged) == []


# Refused ----------------------------------------------------------------------------------------


@refused
def test_no_session_continues_who_waits_for_the_verdict(
    inside, puppet, kernel, verdicts, holds, lab
):
    """What could not be asked before it happened is held afterwards there."""
    sibling = inside.puppet()
    kernel.judge_by(below=False, operations=["memfd_create"])
    held_by(inside, puppet, "memfd_create", puppet.place(b"x"), 0, kind=Privileged)
    inside.forget_events()
    with lab.session() as other:
        for sender in (sibling, other.puppet()):
            with pytest.raises(PermissionError):
                sender("kill", puppet.pid, int(signal.SIGCONT))
        [theirs] = other.events(Privileged)
    [told] = inside.events(Privileged)  # by the hook, not by the sensor again
    for event in (told, theirs):
        assert (event.operation, event.args[0]) == ("hold_undone", puppet.pid)
        assert event.verdict == Verdict.REFUSED
    assert state_of(puppet.pid) == "T"
    assert go_on(holds, inside, puppet) >= 0


@refused
def test_who_stopped_a_process_of_his_own_continues_it(inside, puppet):
    sibling = inside.puppet()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        assert sibling("kill", puppet.pid, int(number)) == 0
    assert puppet("getpid") == puppet.pid
    assert inside.events(Privileged) == []
