# SPDX-License-Identifier: Apache-2.0
"""A tree that runs already is taken in whole: every process, and whoever it starts from then on."""

from __future__ import annotations

import os
import time

import pytest
from laboratory import Puppet, until

from monitor.events import Executed, Forked, ModeChanged
from monitor.sessions import adopt, cgroups
from monitor.sessions.places import view_of
from monitor.subjects import Origin


def test_a_tree_that_has_its_cgroup_to_itself_keeps_it(free, attach, kernel):
    tree = free.ready("family", "children", "3")
    live = attach(tree.pid)
    assert live.origin is Origin.ATTACHED
    assert live.cgroup == free.cgroup
    assert {kernel.task_slot(pid) for pid in adopt.tree_of(tree.pid)} == {live.slot}
    assert len(live.tree) == 4


def test_a_tree_that_shares_its_cgroup_is_moved_to_one_of_its_own(shared, attach, kernel, lab):
    tree = shared.ready("family", "children", "3")
    live = attach(tree.pid)
    assert live.origin is Origin.MOVED
    assert live.cgroup.parent == lab.base
    assert set(cgroups.members(live.cgroup)) == set(adopt.tree_of(tree.pid))
    assert len(list(cgroups.members(shared.cgroup))) == 1
    assert {kernel.task_slot(pid) for pid in adopt.tree_of(tree.pid)} == {live.slot}


@pytest.mark.parametrize("where", ["free", "shared"])
@pytest.mark.parametrize("life_ms", ["0", "3", "30"])
def test_a_tree_that_forks_all_the_time_is_taken_in_whole(
    request, where, attach, lab, kernel, life_ms
):
    place = request.getfixturevalue(where)
    tree = place.ready("restless", "forks", life_ms)
    time.sleep(0.01)
    live = attach(tree.pid)
    assert live.origin is (Origin.ATTACHED if where == "free" else Origin.MOVED)
    lab.taken(live.slot)
    assert until(lambda: any(isinstance(e, Forked) for e in lab.peek(live.slot, 20)))
    forks = [e for e in lab.taken(live.slot) if isinstance(e, Forked)]
    assert {e.tgid for e in forks} == {tree.pid}
    assert set(cgroups.members(live.cgroup)) >= {tree.pid}


@pytest.mark.parametrize("where", ["free", "shared"])
def test_a_zombie_in_the_tree_keeps_nobody_from_being_taken_in(request, where, attach, kernel):
    tree = request.getfixturevalue(where).ready("family", "zombie")
    live = attach(tree.pid)
    assert list(cgroups.members(live.cgroup)) == [tree.pid]
    [zombie] = set(adopt.tree_of(tree.pid)) - {tree.pid}
    assert kernel.task_slot(zombie) == 0


@pytest.mark.parametrize("where", ["free", "shared"])
def test_a_process_whose_main_thread_has_ended_is_taken_in(request, where, attach, kernel, lab):
    tree = request.getfixturevalue(where).ready("family", "outlived")
    live = attach(tree.pid)
    assert kernel.task_slot(tree.pid) == live.slot
    assert set(cgroups.members(live.cgroup)) == {tree.pid}
    assert live.tree.get(tree.pid).image == lab.program("family")
    assert live.view == view_of()
    assert live.mounts


def test_who_has_a_stranger_beside_him_whose_main_thread_has_ended_is_moved(free, attach):
    stranger = free.ready("family", "outlived")
    live = attach(free.ready("family", "children", "0").pid)
    assert live.origin is Origin.MOVED
    assert list(cgroups.members(free.cgroup)) == [stranger.pid]


def test_what_who_lost_his_main_thread_has_open_is_known(free, attach, registry, scratch):
    (scratch / "open").write_text("x")
    with (scratch / "open").open() as file:
        attach(free.ready("family", "outlived", pass_fds=[file.fileno()]).pid)
    assert str(scratch / "open") in [event.file.path.text for event in registry.pending()]


@pytest.mark.parametrize("act", ["outlived", "beside"])
def test_names_that_only_one_thread_sees_are_resolved_as_it_sees_them(
    free, attach, observer, lab, scratch, act
):
    (scratch / "hidden").mkdir()
    (scratch / "target").touch()
    tree = free.ready("family", act, scratch / "hidden", scratch / "target")
    live = attach(tree.pid)
    tree.stdin.write(b"\n")
    tree.stdin.flush()
    assert free.said(tree) == b"done\n"
    [event] = [e for e in lab.taken(live.slot) if isinstance(e, ModeChanged)]
    assert event.tgid == tree.pid != event.tid
    assert event.view != live.view
    facts = observer.observe(event).facts
    assert [fact.fields["TargetFilename"] for fact in facts] == [str(scratch / "target")]


def test_what_an_adopted_process_starts_is_followed(shared, attach, lab):
    puppet = Puppet(shared.ready("puppet"))
    live = attach(puppet.pid)
    argv = puppet.place_texts(b"family", b"exit", b"0")
    puppet.become("execve", lab.program("family").encode(), argv, puppet.place_texts())
    puppet.process.wait()
    runs = [e for e in lab.taken(live.slot) if isinstance(e, Executed)]
    assert [e.image.path.text for e in runs] == [lab.program("family")]


def test_a_cgroup_too_deep_to_be_followed_is_left_for_one_of_its_own(lab, free, attach):
    deep = free.cgroup / "/".join("d" * 12)
    deep.mkdir(parents=True)
    tree = free.ready("enter", str(deep), lab.program("family"), "children", "1")
    live = attach(tree.pid)
    assert live.origin is Origin.MOVED
    assert len(list(cgroups.members(live.cgroup))) == 2


def test_a_cgroup_whose_name_holds_any_byte_is_found(free, lab):
    odd = free.cgroup / os.fsdecode(b"a\rb\xff")
    odd.mkdir()
    process = free.ready("family", "children", "0")
    assert cgroups.move(process.pid, odd)
    assert cgroups.cgroup_of(process.pid, lab.cgroup_root) == odd
    process.kill()
    process.wait()
    assert cgroups.remove(odd)
