# SPDX-License-Identifier: Apache-2.0
"""What is known of a session from the moment its process is taken in until it is forgotten."""

from __future__ import annotations

import time

import pytest

from monitor.errors import AttachError, SessionNotFoundError
from monitor.sessions import adopt, cgroups
from monitor.sessions import registry as registry_module
from monitor.subjects import Mode, State
from monitor.supervisor import Supervisor


def test_a_command_line_is_kept_as_far_as_the_kernel_tells_of_it(registry, lab, free):
    child = free.ready("family", "children", "0")
    argv = ["x", "y" * 5000, *[""] * 9000]
    live = registry.launch(child.pid, name="a", argv=argv, mode=Mode.ENFORCE, uid=0)
    lab.accept(live.slot)
    assert live.snapshot().argv == ("x", "y" * 4094)


def test_a_session_that_ends_leaves_nobody_in_scope(free, attach, registry, kernel):
    tree = free.ready("family", "children", "2")
    live = attach(tree.pid)
    members = adopt.tree_of(tree.pid)
    assert registry.close(live, State.EXITED)
    assert not registry.close(live, State.EXITED)
    assert [kernel.task_slot(pid) for pid in members] == [0] * 3
    assert tree.poll() is None


def test_a_slot_is_nobody_s_until_the_kernel_has_forgotten_who_had_it(
    free, shared, attach, registry, kernel, monkeypatch
):
    live = attach(free.ready("family", "children", "0").pid)
    other = shared.ready("family", "children", "0")
    monkeypatch.setattr(registry_module, "_MAX_SLOTS", 1)
    registry._slots[1] = registry._slots.pop(live.slot)
    live.slot, forget = 1, kernel.forget

    def forgets(slot):
        with pytest.raises(AttachError, match="1 sessions run already"):
            registry.attach(other.pid, name="next", mode=Mode.ENFORCE)
        return forget(slot)

    monkeypatch.setattr(kernel, "forget", forgets)
    assert registry.close(live, State.EXITED)
    assert registry._free_slot() == 1


def test_of_a_session_that_ended_a_minute_ago_its_snapshot_is_left(
    free, attach, registry, observer, kernel, lab
):
    live = attach(free.ready("family", "children", "2").pid)
    live.written.add(1, 2)
    for event in registry.pending():
        observer.observe(event)
    lab.evict(live.cgroup)
    assert registry.end(live)
    registry.close(live, State.EXITED)
    told, events = live.snapshot(), list(live.history)
    registry.shed()
    assert list(live.history) == events
    assert len(live.tree) == 3
    assert (1, 2) in live.written
    registry._clock = lambda which: time.clock_gettime_ns(which) + registry_module._WHOLE_NS
    registry.shed()
    assert registry.find(live.id).snapshot() == told
    assert registry.snapshots() == [told]
    assert (len(live.tree), list(live.history), (1, 2) in live.written) == (0, [], False)


def test_of_ended_sessions_only_the_latest_are_kept(free, attach, registry, monkeypatch):
    monkeypatch.setattr(registry_module, "_MAX_ENDED", 2)
    ended = []
    for _ in range(3):
        ended.append(attach(free.ready("family", "children", "0").pid))
        registry.close(ended[-1], State.EXITED)
    assert [known.id for known in registry.snapshots()] == [live.id for live in ended[1:]]
    with pytest.raises(SessionNotFoundError):
        registry.find(ended[0].id)


def test_a_launched_child_is_in_its_cgroup_and_in_scope(registry, lab, kernel, free):
    child = free.ready("family", "children", "0")
    live = registry.launch(child.pid, name="a b/c", argv=["x"], mode=Mode.ENFORCE, uid=0)
    lab.accept(live.slot)
    assert list(cgroups.members(live.cgroup)) == [child.pid]
    assert live.cgroup.parent == lab.base
    assert kernel.task_slot(child.pid) == live.slot
    assert live.name == "a-b-c"
    assert registry.slot_of(child.pid) == live.slot


def test_a_process_that_is_not_there_counts_as_supervised(registry, free):
    supervisor = object.__new__(Supervisor)
    supervisor._registry = registry
    child = free.ready("family", "children", "0")
    assert not supervisor.is_supervised(child.pid)
    child.kill()
    child.wait()
    assert supervisor.is_supervised(child.pid)
