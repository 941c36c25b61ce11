# SPDX-License-Identifier: Apache-2.0
"""What a monitor makes of a session that the one before it left: the kernel's word, not the record's."""

from __future__ import annotations

import subprocess

import pytest
from calls import opening
from held import held_by, watching
from laboratory import until
from msgspec.structs import replace
from states import ended

from monitor.alerts import SessionRef
from monitor.casebook import Casebook
from monitor.lifecycle import Lifecycle
from monitor.lowered import Act, Where
from monitor.memories import Memories
from monitor.response.grants import Grants
from monitor.sessions.registry import Registry
from monitor.subjects import Mode, Origin, Session, State

HELPER = SessionRef(id="s", name="helper")


@pytest.fixture
def recorded(inside, puppet):
    return Session(
        id="s", name="helper", state=State.RUNNING, mode=Mode.ENFORCE, origin=Origin.ATTACHED,
        cgroup=str(inside.cgroup), root_pid=puppet.pid, uid=0,
    )  # fmt: skip


@pytest.fixture
def following(lab, store, facts, killswitch):
    """The next monitor's registry and casebook, when it has restored what it found."""

    def start():
        registry = Registry(
            lab.kernel, facts, cgroup_root=lab.cgroup_root, cgroup_name="estop-test-none"
        )
        book, grants = Casebook(store), Grants(lab.kernel.grant)
        Lifecycle(lab.kernel, registry, killswitch, store, grants, book, Memories(store)).restore()
        return registry, book

    return start


@pytest.fixture
def restored(lab, store, following):
    """The next monitor, with what the last one recorded: its session and its casebook."""

    def start(session):
        store.save_session(session)
        store.settle()
        registry, book = following()
        store.settle()
        (live,) = registry.live()
        lab.accept(live.slot)
        assert store.sessions()[0].state is live.state
        return live, book

    return start


def incidents(store):
    return [(i.state.value, i.resolution.value) for i in store.incidents().items]


def test_who_was_resumed_before_the_record_knew_runs_and_may_be_stopped_again(
    inside, recorded, restored, store
):
    live, book = restored(replace(recorded, state=State.FROZEN))
    assert live.slot == inside.slot
    assert live.state is State.RUNNING
    assert not book.is_open("s")


def test_the_incident_of_one_who_was_resumed_before_the_record_knew_is_over(
    recorded, restored, store
):
    session = replace(recorded, state=State.FROZEN)
    Casebook(store).stopped_by(HELPER, "ann", "Ann froze it.")
    restored(session)
    assert incidents(store) == [("resolved", "resumed")]


def test_who_was_stopped_and_is_not_followed_any_more_is_stopped_again_and_told(
    lab, inside, recorded, restored, store, killswitch
):
    """The machine was started anew, and the agent with it, which nobody gave leave for."""
    lab.kernel.forget(inside.slot)
    live, book = restored(replace(recorded, state=State.FROZEN))
    try:
        assert live.state is State.FROZEN
        assert killswitch.is_frozen(live)
        assert lab.kernel.is_quarantined(live.slot)
        assert book.is_open("s")
    finally:
        lab.kernel.forget(live.slot)


def test_who_was_stopped_before_anybody_could_be_told_is_told_by_the_next_monitor(
    lab, inside, recorded, restored, store, killswitch
):
    lab.kernel.quarantine(inside.slot, on=True)  # all there was time for
    live, book = restored(recorded)
    assert live.state is State.FROZEN
    assert killswitch.is_frozen(live)
    assert book.is_open("s")
    assert incidents(store) == [("open", "")]
    (incident,) = store.incidents().items
    assert incident.title == "Was Stopped When The Monitor Ended"
    evidence = store.incident(incident.id)[1]
    assert [p["pid"] for p in evidence["processes"]] == [recorded.root_pid]


def test_who_stood_still_for_a_verdict_that_never_came_is_told_by_the_next_monitor(
    inside, recorded, restored, killswitch
):
    killswitch.contain(inside)
    assert until(lambda: killswitch.is_frozen(inside))
    live, book = restored(recorded)
    assert live.state is State.FROZEN
    assert book.is_open("s")


def test_who_was_told_to_stand_still_and_had_not_come_to_it_is_stopped(
    lab, inside, recorded, stuck, restored, killswitch
):
    killswitch.contain(inside)
    assert not killswitch.is_frozen(inside)
    live, book = restored(recorded)
    assert lab.kernel.is_quarantined(live.slot)
    assert book.is_open("s")


def test_a_stranger_that_has_the_number_of_a_root_that_ended_is_left_alone(lab, recorded, restored):
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        restored(replace(recorded, root_pid=stranger.pid))
        assert lab.kernel.task_slot(recorded.root_pid)
        assert not lab.kernel.task_slot(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_who_lost_his_main_thread_is_followed_by_the_next_monitor(lab, inside, recorded, restored):
    process = inside.ready("family", "outlived")
    assert ended(process.pid)  # by its letter
    live, _ = restored(recorded)
    assert lab.kernel.task_slot(process.pid) == live.slot
    assert live.tree.get(process.pid).image == lab.program("family")


def test_who_waits_in_a_session_that_no_record_tells_of_goes_on(
    lab, inside, puppet, following, verdicts, scratch
):
    (scratch / "secret").write_text("x")
    watching(verdicts, Where.EXACT, scratch / "secret", Act.READ)
    held_by(inside, puppet, *opening(puppet, scratch / "secret"))
    following()
    assert puppet.answer() >= 0
    assert not lab.kernel.task_slot(puppet.pid)


def test_a_stop_that_was_told_is_told_once(inside, recorded, restored, store, killswitch):
    assert killswitch.freeze(inside).done
    Casebook(store).stopped_by(HELPER, "ann", "Ann froze it.")
    restored(replace(recorded, state=State.FROZEN))
    (incident,) = store.incidents().items
    assert incident.sentence == "Ann froze it."
