# SPDX-License-Identifier: Apache-2.0
"""In uninterruptible sleep: a freeze is not confirmed, and that is said in time; a kill does its work."""

from __future__ import annotations

import time

import pytest
from laboratory import until
from wires import address, connect

from monitor.response.holds import Holds
from monitor.response.killswitch import KillSwitch
from monitor.subjects import State


def test_a_freeze_that_cannot_be_confirmed_says_so_in_time_and_the_network_is_cut(
    inside, stuck, lab, kernel
):
    switch = KillSwitch(
        lambda slot, on: kernel.quarantine(slot, on=on),
        Holds(kernel),
        cgroup_root=lab.cgroup_root,
        deadline_ms=100,
    )
    other = inside.puppet()
    start = time.monotonic()
    report = switch.freeze(inside)
    assert 0.1 <= time.monotonic() - start < 0.5
    assert not report.done
    assert "populated 1 frozen 0" in report.detail
    assert "frozen" not in report.steps_ns
    assert "cut" in report.steps_ns
    (inside.cgroup / "cgroup.freeze").write_text("0")  # one that can run is let run, to try
    with pytest.raises(PermissionError):
        connect(other.stubborn(), address("127.0.0.1", 9))


def test_a_kill_does_not_wait_for_a_freeze_that_cannot_be_confirmed(inside, stuck, lab, kernel):
    switch = KillSwitch(
        lambda slot, on: kernel.quarantine(slot, on=on),
        Holds(kernel),
        cgroup_root=lab.cgroup_root,
        deadline_ms=100,
    )
    report = switch.kill(inside)
    assert report.done
    assert list(report.steps_ns) == ["cut", "killed", "empty"]


def actions(store):
    """What came of each alert, oldest first."""
    store.settle()
    return [alert.outcome.action.value for alert in reversed(store.alerts().items)]


def test_a_freeze_that_cannot_be_confirmed_keeps_nobody_waiting_and_is_told_again_when_it_is_known(
    live, stuck, responder, forbidden, store, kernel
):
    start = time.monotonic()
    for _ in range(5):
        forbidden()
    assert time.monotonic() - start < 0.3
    assert kernel.is_quarantined(live.slot)
    assert live.state is State.RUNNING
    assert actions(store) == ["stopping"] + ["already_stopped"] * 4
    assert "not confirmed yet" in store.incidents().items[0].sentence
    assert until(lambda: actions(store)[0] == "failed", 3)
    assert until(lambda: "NOT" in store.incidents().items[0].sentence, 3)
    assert "frozen" not in store.alerts().items[-1].timings_ns


def test_a_freeze_that_is_confirmed_late_is_told_as_one(
    live, stuck, inside, responder, forbidden, store
):
    inside.puppet()
    forbidden()
    assert live.state is State.RUNNING
    stuck.process.kill()  # the other one stands still
    assert until(lambda: actions(store) == ["frozen"], 3)
    assert live.state is State.FROZEN
    (alert,) = store.alerts().items
    assert alert.outcome.detail == ""
    assert "was frozen" in store.incidents().items[0].sentence


def test_a_freeze_that_nobody_waits_for_any_more_is_noticed_all_the_same(
    live, stuck, inside, responder, forbidden, store
):
    inside.puppet()
    forbidden()
    assert until(lambda: actions(store) == ["failed"], 3)
    responder.confirm_late(live)
    assert live.state is State.RUNNING
    stuck.process.kill()
    stuck.process.wait()
    responder.confirm_late(live)
    assert live.state is State.FROZEN
    store.settle()
    assert store.sessions()[0].state is State.FROZEN


def test_who_is_resumed_before_his_freeze_is_confirmed_runs(
    live, stuck, responder, forbidden, store, kernel
):
    forbidden()
    responder.act(live, "resume", who="ann", why="")
    assert until(lambda: actions(store) == ["failed"], 0.5)  # nobody waits any longer
    assert live.state is State.RUNNING
    assert not kernel.is_quarantined(live.slot)
    assert "was resumed" in store.alerts().items[0].outcome.detail
