# SPDX-License-Identifier: Apache-2.0
"""Who stops a session and who lets it go at the same time do not leave it half stopped."""

from __future__ import annotations

import sys
import threading

import pytest

from monitor.subjects import State


@pytest.fixture
def once(killswitch, monkeypatch):
    """Something is done between the kernel's word and what is made of it."""

    def at(line, act):
        wait = killswitch._wait

        def then(target, wanted, *more):
            done = wait(target, wanted, *more)
            if wanted == line:
                monkeypatch.setattr(killswitch, "_wait", wait)
                act()
            return done

        monkeypatch.setattr(killswitch, "_wait", then)

    return at


def test_who_is_stopped_while_he_is_resumed_stays_frozen_and_cut(
    inside, puppet, killswitch, kernel, once
):
    assert killswitch.freeze(inside).done
    once("frozen 0", lambda: killswitch.freeze(inside))
    report = killswitch.resume(inside)
    assert "stopped again" in report.detail
    assert inside.state is State.FROZEN
    assert killswitch.is_frozen(inside)
    assert kernel.is_quarantined(inside.slot)


def test_who_is_resumed_counts_as_running_before_he_has_his_network_back(
    inside, puppet, killswitch, once
):
    states = []
    assert killswitch.freeze(inside).done
    once("frozen 0", lambda: states.append(inside.state))
    assert killswitch.resume(inside).done
    assert states == [State.RUNNING]


def test_who_is_resumed_while_he_is_stopped_does_not_count_as_frozen(
    inside, puppet, killswitch, kernel, once
):
    once("frozen 1", lambda: killswitch.resume(inside))
    killswitch.freeze(inside)
    assert inside.state is State.RUNNING
    assert not killswitch.is_frozen(inside)
    assert not kernel.is_quarantined(inside.slot)


def test_who_is_resumed_while_he_is_killed_dies_with_his_network_cut(
    inside, puppet, killswitch, kernel, once
):
    once("frozen 1", lambda: killswitch.resume(inside))
    assert killswitch.kill(inside).done
    assert inside.state is State.KILLED
    assert kernel.is_quarantined(inside.slot)
    assert not killswitch.resume(inside).done


def test_however_they_meet_a_session_runs_with_its_network_or_is_told_as_stopped(
    responder, live, killswitch, kernel, book
):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    try:
        for _ in range(60):
            responder.act(live, "freeze", who="ann", why="")
            meeting = threading.Barrier(2)

            def act(verb, meeting=meeting):
                meeting.wait()
                responder.act(live, verb, who="bob", why="")

            both = [threading.Thread(target=act, args=(verb,)) for verb in ("resume", "freeze")]
            for one in both:
                one.start()
            for one in both:
                one.join()
            stopped = live.state is State.FROZEN
            assert live.state in {State.FROZEN, State.RUNNING}
            assert killswitch.is_frozen(live) is stopped
            assert kernel.is_quarantined(live.slot) is stopped
            assert book.is_open(live.id) is stopped
    finally:
        sys.setswitchinterval(interval)


def test_what_is_done_as_soon_as_it_runs_is_an_incident_of_its_own(
    responder, live, forbidden, store, once
):
    forbidden()
    once("frozen 0", forbidden)
    responder.act(live, "resume", who="ann", why="go on")
    assert live.state is State.FROZEN
    store.settle()
    found = [(i.state.value, i.resolved_by) for i in store.incidents().items]
    assert found == [("open", ""), ("resolved", "ann")]
    assert [a.outcome.action.value for a in store.alerts().items] == ["frozen", "frozen"]
