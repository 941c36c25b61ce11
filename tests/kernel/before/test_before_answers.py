# SPDX-License-Identifier: Apache-2.0
"""One question has one answer, whoever continues the process, its threads and its handlers."""

from __future__ import annotations

import os
import signal
import time

import pytest
from calls import opening
from held import judged
from laboratory import until
from questions import ASKED, KEPT, answer, asked, files_of, let
from states import state_of

from monitor.events import Opened
from monitor.response.holds import Answer

pytestmark = pytest.mark.tier("lsm")


# Who continues it -------------------------------------------------------------------------------


def test_without_an_answer_it_waits_on_and_asks_no_second_time(inside, puppet, holds, secret):
    event = asked(inside, puppet, *opening(puppet, secret))
    inside.forget_events()
    for _ in range(3):
        os.kill(puppet.pid, signal.SIGCONT)
        time.sleep(0.1)
        assert until(lambda: state_of(puppet.pid) == "T")
    assert not inside.events(Opened)
    assert holds.waiting(inside.slot) == 1
    assert str(secret) not in files_of(puppet.pid)
    assert let(holds, inside, puppet, event) >= 0


def test_an_answer_that_was_lost_is_asked_for_again(inside, puppet, kernel, holds, secret):
    event = asked(inside, puppet, *opening(puppet, secret))
    assert kernel.map("questions").delete(event.tid)
    inside.forget_events()
    answer(holds, inside, event, Answer.LET)
    again = inside.wait(Opened, lambda e: e.verdict)
    assert again.verdict == ASKED
    assert until(lambda: state_of(puppet.pid) == "T")
    assert let(holds, inside, puppet, again) >= 0


def test_a_question_ends_with_its_thread(inside, puppet, kernel, secret):
    event = asked(inside, puppet, *opening(puppet, secret))
    assert kernel.map("questions").get(event.tid) is not None
    os.kill(puppet.pid, signal.SIGKILL)
    assert until(lambda: kernel.map("questions").get(event.tid) is None)


def test_a_stop_means_that_it_never_happened_and_a_resume_says_so_once(
    inside, puppet, holds, killswitch, secret
):
    call = opening(puppet, secret, os.O_WRONLY | os.O_TRUNC)
    event = asked(inside, puppet, *call)
    holds.decide(event.tid, event.held_ns, Answer.FORBID)
    assert killswitch.freeze(inside).done
    killswitch.release(inside, puppet.pid)  # as for every candidate: to no effect
    judged(holds, inside)
    assert state_of(puppet.pid) == "T"
    assert secret.read_bytes() == KEPT
    assert killswitch.resume(inside).done
    with pytest.raises(PermissionError):
        puppet.answer()
    assert secret.read_bytes() == KEPT
    assert let(holds, inside, puppet, asked(inside, puppet, *call)) >= 0


# Threads and signals ----------------------------------------------------------------------------


def go(process):
    process.stdin.write(b"\n")
    process.stdin.flush()


@pytest.mark.parametrize("word", [Answer.LET, Answer.FORBID])
def test_of_many_threads_each_is_answered(inside, holds, secret, word):
    process = inside.ready("openers", str(secret), "4")
    inside.forget_events()
    go(process)
    told = set()
    while len(told) < 4:
        event = inside.wait(Opened, lambda e: e.verdict and e.tid not in told)
        assert event.verdict == ASKED
        told.add(event.tid)
        answer(holds, inside, event, word)
    # Who was stopped by another's signal between two answers: the housekeeper's part in a monitor.
    assert until(lambda: not continue_all(holds, inside) and process.poll() is not None)
    expected = 0 if word is Answer.LET else 1
    assert inside.said(process) == f"{expected} {expected} {expected} {expected} 0\n".encode()
    assert holds.waiting(inside.slot) == 0


def continue_all(holds, inside):
    stopped = list(holds.stopped(inside.slot))
    for hold in stopped:
        holds.forget(hold.pid)
        os.kill(hold.pid, signal.SIGCONT)
    return stopped


@pytest.mark.parametrize("blocked", [(), ("block",)])
def test_a_handler_that_ran_meanwhile_ends_no_call(inside, holds, secret, blocked):
    process = inside.ready("openers", str(secret), "1", *blocked)
    inside.forget_events()
    go(process)
    event = inside.wait(Opened, lambda e: e.verdict)
    assert event.verdict == ASKED
    assert until(lambda: state_of(process.pid) == "T")
    os.kill(process.pid, signal.SIGUSR1)
    answer(holds, inside, event, Answer.LET)
    assert inside.said(process) == b"0 1\n"
