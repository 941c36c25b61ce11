# SPDX-License-Identifier: Apache-2.0
"""An answer is for its own question, comes in time or not at all, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import threading
import time

from calls import opening
from held import held_by, judged, watching
from states import state_of
from wires import address, connect, listener

from monitor.capture import wire
from monitor.lowered import Act, Lowered, Where
from monitor.response.holds import Answer, Holds


def test_who_is_answered_before_he_is_back_from_the_call_is_not_stopped(
    inside, puppet, kernel, verdicts, holds
):
    """The answer is a race that the process must win every time."""
    verdicts.replace(Lowered(taint_connects=frozenset({"r"})))
    kernel.taint(inside.slot)
    done = threading.Event()

    def answer():
        while not done.is_set():
            if holds.waiting(inside.slot):
                judged(holds, inside)
                if holds.of(puppet.pid):
                    holds.forget(puppet.pid)
                    os.kill(puppet.pid, signal.SIGCONT)

    answering = threading.Thread(target=answer)
    answering.start()
    try:
        with listener("127.0.0.1") as there:
            for _ in range(300):
                fd = connect(puppet, address("127.0.0.1", there.getsockname()[1]))
                puppet("close", fd)
                there.accept()[0].close()
    finally:
        done.set()
        answering.join()
    assert holds.of(puppet.pid) is None


def test_who_ends_while_it_is_held_is_forgotten(inside, puppet, verdicts, holds, scratch):
    secret = scratch / "secret"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ)
    held_by(inside, puppet, *opening(puppet, secret))
    puppet.process.kill()
    puppet.process.wait()
    assert holds.of(puppet.pid) is None


def test_an_answer_stands_and_is_for_its_own_question(kernel, inside, holds):
    questions = kernel.map("questions")

    def asked(tid, ktime_ns):
        row = wire.QUESTION.packed.unpack(bytes(wire.QUESTION.size))
        questions.set((tid,), (inside.slot, *row[1:-3], ktime_ns, *row[-2:]))

    def answer_of(tid):
        return dict(zip((n for n, _ in wire.QUESTION.members), questions.get(tid), strict=True))[
            "answer"
        ]

    first, second, third = range(2**31 - 3, 2**31)  # no thread has such a number
    for tid in (first, second, third):
        asked(tid, 7)
    holds.decide(first, 7, Answer.FORBID)
    holds.decide(second, 8, Answer.LET)  # of an earlier question of the thread
    holds.decide_all(inside.slot + 1, Answer.LET)
    assert [answer_of(tid) for tid in (first, second, third)] == [Answer.FORBID, 0, 0]
    holds.decide_all(inside.slot, Answer.LET)
    assert [answer_of(tid) for tid in (first, second, third)] == [
        Answer.FORBID,
        Answer.LET,
        Answer.LET,
    ]
    kernel.forget(inside.slot)
    assert [questions.get(tid) for tid in (first, second, third)] == [None, None, None]


def test_who_waits_for_a_verdict_is_not_continued_by_a_resume(
    inside, puppet, verdicts, holds, killswitch, scratch
):
    """Of another process of the session: what that did is not judged yet."""
    secret = scratch / "secret"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ)
    held_by(inside, puppet, *opening(puppet, secret))
    assert killswitch.freeze(inside).done
    assert killswitch.resume(inside).done
    assert holds.of(puppet.pid)
    assert state_of(puppet.pid) == "T"
    holds.decide_all(inside.slot, Answer.LET)
    judged(holds, inside)
    assert killswitch.release(inside, puppet.pid)
    assert puppet.answer() >= 0


def test_an_act_that_the_next_monitor_reads_once_more_is_not_answered_twice(inside, kernel, holds):
    """The second answer would be taken for that of an act that nobody has judged."""
    asked = kernel.map("candidates")
    asked.set((inside.slot,), (1,))
    holds.answer(inside.slot, 7)
    asked.set((inside.slot,), (2,))  # while no monitor runs
    following = Holds(kernel)
    following.answer(inside.slot, 7)
    assert following.waiting(inside.slot) == 1
    following.answer(inside.slot, 8)
    assert following.waiting(inside.slot) == 0


def test_an_act_that_was_decided_over_is_not_answered_once_more(inside, kernel, holds):
    asked, held_ns = kernel.map("candidates"), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    asked.set((inside.slot,), (1,))
    holds.answer_all(inside.slot)
    asked.set((inside.slot,), (2,))
    holds.answer(inside.slot, held_ns)  # its record was in the ring all the time
    assert holds.waiting(inside.slot) == 1
    judged(holds, inside)
    assert holds.waiting(inside.slot) == 0
