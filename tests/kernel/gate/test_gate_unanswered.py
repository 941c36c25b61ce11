# SPDX-License-Identifier: Apache-2.0
"""Without our word nobody waits for ever, whoever of asker, gatekeeper and monitor is slow or dead."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest
from gates import a_monitor, guarding
from laboratory import until
from states import asleep, ended
from ways import by_path


@pytest.mark.parametrize(("fail_open", "content"), [(False, "content"), (True, "")])
def test_a_question_nobody_answers_is_answered_by_the_fail_mode(
    kernel, puppet, file, fail_open, content
):
    with guarding(kernel, fail_open=fail_open, hold_timeout_ms=100) as guard:
        guard.watch(file)
        start = time.monotonic()
        puppet.become("creat", os.fsencode(file), 0o600)
        question = guard.next()
        if fail_open:
            puppet.answer()
        else:
            with pytest.raises(PermissionError):
                puppet.answer()
        assert 0.09 < time.monotonic() - start < 0.5
        assert file.read_text() == content
        assert until(lambda: guard.gate.tally.late == 1)
        guard.gate.answer(question, allow=True)  # to nobody
        guard.done()


def test_an_answer_for_a_gatekeeper_that_is_gone_is_no_answer_to_somebody_else(
    kernel, inside, file
):
    with guarding(kernel) as guard:
        guard.watch(file)
        first, second = inside.puppet(), inside.puppet()
        first.become("open", os.fsencode(file), os.O_RDONLY)
        late = guard.next()
        guard.gate.start()  # another one, in place of the first
        with pytest.raises(PermissionError):
            first.answer()
        guard.watch(file)
        second.become("open", os.fsencode(file), os.O_WRONLY | os.O_TRUNC)
        question = guard.next()
        guard.gate.answer(late, allow=True)
        guard.done()
        assert asleep(second.pid)
        assert file.read_text() == "content"
        guard.gate.answer(question, allow=False)
        with pytest.raises(PermissionError):
            second.answer()


def test_more_questions_than_may_wait_are_answered_by_the_fail_mode(kernel, inside, file):
    with guarding(kernel, most_waiting=1) as guard:
        guard.watch(file)
        first, second = inside.puppet(), inside.puppet()
        first.become("open", os.fsencode(file), os.O_RDONLY)
        question = guard.next()
        with pytest.raises(PermissionError):
            by_path(second, file, os.O_RDONLY)
        assert until(lambda: guard.gate.tally.crowded == 1)
        guard.gate.answer(question, allow=True)
        assert first.answer() >= 0


@pytest.mark.parametrize("fail_open", [False, True])
def test_who_waits_when_the_gate_is_closed_is_answered_by_the_fail_mode(
    kernel, puppet, file, fail_open
):
    with guarding(kernel, fail_open=fail_open) as guard:
        guard.watch(file)
        puppet.become("open", os.fsencode(file), os.O_RDONLY)
        guard.next()
    if fail_open:
        assert puppet.answer() >= 0
    else:
        with pytest.raises(PermissionError):
            puppet.answer()


def test_a_killed_asker_leaves_nobody_blocked(guard, inside, puppet, file):
    guard.watch(file)
    puppet.become("open", os.fsencode(file), os.O_RDWR)
    question = guard.next()
    assert until(lambda: asleep(puppet.pid))
    puppet.process.kill()
    assert puppet.process.wait(2) == -signal.SIGKILL
    guard.gate.answer(question, allow=True)
    guard.refusing()
    with pytest.raises(PermissionError):
        by_path(inside.puppet(), file, os.O_RDWR)


def test_the_death_of_the_gatekeeper_lets_pass_who_waits_and_another_one_can_follow(
    guard, puppet, file
):
    """The kernel's rule, not ours: so the BPF side has to hold by itself."""
    guard.watch(file)
    puppet.become("open", os.fsencode(file), os.O_RDONLY)
    guard.next()
    assert until(lambda: asleep(puppet.pid))
    os.kill(guard.gate.pid, signal.SIGKILL)
    assert puppet.answer() >= 0
    by_path(puppet, file, os.O_WRONLY)
    assert guard.asked(1)  # news, but no question
    assert not guard.gate.take()
    assert until(lambda: guard.gate.trouble() == "it ended with -9")
    guard.gate.start()
    assert not guard.gate.trouble()
    guard.watch(file)
    guard.refusing()
    with pytest.raises(PermissionError):
        by_path(puppet, file, os.O_RDONLY)


def test_a_gatekeeper_that_hangs_is_noticed_and_can_be_replaced(guard, inside, puppet, file):
    guard.watch(file)
    os.kill(guard.gate.pid, signal.SIGSTOP)
    puppet.become("open", os.fsencode(file), os.O_RDONLY)
    stranger = subprocess.Popen(["/bin/cat", file], stdout=subprocess.DEVNULL)
    assert until(lambda: asleep(stranger.pid))
    assert until(guard.gate.trouble, 5)
    guard.gate.start()
    assert stranger.wait(3) == 0
    assert puppet.answer() >= 0


@pytest.mark.parametrize("stopped", [False, True])
def test_the_gatekeeper_does_not_outlive_the_monitor(kernel, puppet, file, stopped):
    """Closed by the end of the channel or, where it cannot look, by the kernel."""
    monitor = a_monitor(kernel, file)
    try:
        gatekeeper = int(monitor.stdout.readline())
        puppet.become("open", os.fsencode(file), os.O_RDONLY)
        assert monitor.stdout.readline() == b"asked\n"
        assert asleep(puppet.pid)
        if stopped:
            os.kill(gatekeeper, signal.SIGSTOP)
    finally:
        monitor.kill()
        monitor.wait()
        monitor.stdout.close()
    assert until(lambda: not os.path.exists(f"/proc/{gatekeeper}") or ended(gatekeeper))
    with suppress(PermissionError):  # by the fail mode, if it had the time
        puppet.answer()
    by_path(puppet, file, os.O_WRONLY)
