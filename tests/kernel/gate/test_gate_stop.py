# SPDX-License-Identifier: Apache-2.0
"""A session that waits at the gate can be frozen, refused and killed."""

from __future__ import annotations

import os
import select
import time

import pytest
from laboratory import until
from ways import by_path


def frozen(cgroup):
    return "frozen 1" in (cgroup / "cgroup.events").read_text()


def test_a_session_freezes_when_its_question_is_refused_after_the_freeze_is_asked_for(
    guard, inside, kernel, file
):
    """Cut, ask for the freeze, refuse, confirm: so that the asker sees its EPERM when it is thawed."""
    guard.watch(file)
    took = []
    for _ in range(20):
        puppet = inside.puppet()
        puppet.become("open", os.fsencode(file), os.O_WRONLY | os.O_TRUNC)
        question = guard.next()
        start = time.perf_counter_ns()
        kernel.quarantine(inside.slot, on=True)
        (inside.cgroup / "cgroup.freeze").write_text("1")
        if not took:
            time.sleep(0.05)
            assert not frozen(inside.cgroup)  # asleep in the question it does not count as frozen
            start = time.perf_counter_ns()
        guard.gate.answer(question, allow=False)
        while not frozen(inside.cgroup):
            assert time.perf_counter_ns() - start < 1e9
            time.sleep(0.00005)  # the asker may need this processor to get there
        took.append((time.perf_counter_ns() - start) / 1000)
        assert not select.select([puppet.process.stdout], [], [], 0.01)[0]
        (inside.cgroup / "cgroup.freeze").write_text("0")
        kernel.quarantine(inside.slot, on=False)
        with pytest.raises(PermissionError):
            puppet.answer()
    took.sort()
    print(f"from the verdict to frozen 1: p50 {took[10]:.0f} us, max {took[-1]:.0f} us")
    assert file.read_text() == "content"


def test_a_session_that_is_stopped_is_refused_everything_without_a_word_of_the_pipeline(
    guard, inside, file
):
    guard.watch(file)
    puppets = [inside.puppet() for _ in range(4)]
    for puppet in puppets[:3]:
        puppet.become("open", os.fsencode(file), os.O_WRONLY | os.O_TRUNC)
    assert until(lambda: guard.gate.tally.asked == 3)
    (inside.cgroup / "cgroup.freeze").write_text("1")
    guard.gate.refuse(inside.slot, on=True)
    assert until(lambda: frozen(inside.cgroup), 0.5)
    (inside.cgroup / "cgroup.freeze").write_text("0")
    puppets[3].become("open", os.fsencode(file), os.O_WRONLY | os.O_TRUNC)
    for puppet in puppets:
        with pytest.raises(PermissionError):
            puppet.answer()
    assert file.read_text() == "content"
    assert until(lambda: guard.gate.tally.refused == 4)
    guard.gate.refuse(inside.slot, on=False)
    guard.gate.take()
    guard.answering(lambda _: True)
    by_path(puppets[0], file, os.O_RDONLY)


def test_a_session_that_waits_for_our_word_can_be_killed(guard, inside, puppet, killswitch, file):
    guard.watch(file)
    puppet.become("open", os.fsencode(file), os.O_RDWR)
    guard.next()
    (inside.cgroup / "cgroup.kill").write_text("1")
    assert until(lambda: "populated 0" in (inside.cgroup / "cgroup.events").read_text())
