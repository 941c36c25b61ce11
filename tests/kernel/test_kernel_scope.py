# SPDX-License-Identifier: Apache-2.0
"""Who is followed, and that nobody else is."""

from __future__ import annotations

import os

import pytest
from wires import address, connect, listener, send

from monitor.capture.programs import LSM_HOOKS, LSM_PREFIX
from monitor.errors import CaptureError
from monitor.events import CgroupMoved, Exited, Forked, Opened
from monitor.sessions import cgroups
from monitor.tier import Tier

CWD = -100


def touch(puppet, path):
    puppet("openat", CWD, os.fsencode(path), os.O_WRONLY | os.O_CREAT, 0o600)


def touched(inside, path):
    return inside.wait(Opened, lambda e: e.file.path.text == str(path))


def test_nothing_outside_of_sessions_reaches_user_space(lab, inside, puppet, scratch):
    with lab.session(watched=False) as outside, listener() as server:
        stranger = outside.puppet()
        touch(stranger, scratch / "strange")
        stranger("rename", os.fsencode(scratch / "strange"), os.fsencode(scratch / "away"))
        stranger("memfd_create", b"strange", 0)
        connect(stranger, address("127.0.0.1", server.getsockname()[1]))
        stranger("kill", os.getpid(), 18)
        outside.run("family", "exit", "0")
        touch(puppet, scratch / "ours")
        lab.collect()
        assert not lab.strangers
        assert lab.kernel.task_slot(stranger.pid) == 0
    assert {e.tgid for e in inside.events()} == {puppet.pid}


def test_a_daemon_is_followed_through_double_fork_and_a_new_session(inside, scratch):
    process = inside.start("family", "daemon", scratch / "file")
    event = touched(inside, scratch / "file")
    births = inside.events(Forked)
    assert births[0].tgid == process.pid
    assert births[-1].child == event.tgid
    assert births[-1].tgid == births[0].child


def test_a_child_born_into_the_cgroup_from_outside_is_followed(inside, lab, scratch):
    with lab.session(watched=False) as outside:
        parent = outside.start("family", "born-into", str(inside.cgroup), scratch / "file")
        child = int(parent.stdout.readline())
        assert touched(inside, scratch / "file").tgid == child
        assert {e.tgid for e in inside.events()} == {child}


@pytest.mark.usefixtures("nothing_refused")
def test_a_child_born_out_of_the_cgroup_is_followed_and_told(inside, lab, scratch):
    away = lab.empty_cgroup()
    inside.run("family", "born-into", str(away), scratch / "file")
    child = touched(inside, scratch / "file").tgid
    events = inside.events()
    assert child in {e.child for e in events if isinstance(e, Forked)}
    assert [(e.target, e.inside, e.path) for e in events if isinstance(e, CgroupMoved)] == [
        (child, False, away.name)
    ]


@pytest.mark.usefixtures("nothing_refused")
def test_a_process_that_left_the_cgroup_is_followed_and_so_are_its_children(
    inside, puppet, lab, scratch
):
    away = lab.empty_cgroup()
    procs = puppet("openat", CWD, os.fsencode(away / "cgroup.procs"), os.O_WRONLY)
    puppet("write", procs, b"0", 1)
    touch(puppet, scratch / "file")
    assert touched(inside, scratch / "file").tgid == puppet.pid
    argv = puppet.place_texts(b"family", b"daemon", os.fsencode(scratch / "later"))
    puppet.become("execve", lab.program("family").encode(), argv, puppet.place_texts())
    assert touched(inside, scratch / "later").tgid != puppet.pid
    assert list(cgroups.members(inside.cgroup)) == []


@pytest.mark.usefixtures("nothing_refused")
def test_a_process_that_left_the_cgroup_has_no_network_under_quarantine(
    inside, puppet, lab, kernel
):
    away = lab.empty_cgroup()
    procs = puppet("openat", CWD, os.fsencode(away / "cgroup.procs"), os.O_WRONLY)
    puppet("write", procs, b"0", 1)
    kernel.quarantine(inside.slot, on=True)
    with pytest.raises(PermissionError):
        connect(puppet, address("127.0.0.1", 9))


@pytest.mark.parametrize("names", [(), ("a",), ("a", "b"), tuple("abcdefgh")])
def test_a_process_that_comes_below_the_sessions_cgroup_is_followed(inside, lab, names):
    below = inside.cgroup.joinpath(*names)
    below.mkdir(parents=True, exist_ok=True)
    with lab.session(watched=False) as outside:
        outside.run("enter", str(below), lab.program("family"), "exit", "3")
    exits = inside.events(Exited)
    assert [os.waitstatus_to_exitcode(e.code) for e in exits] == [3]


def test_who_was_in_the_cgroup_before_it_was_a_sessions_is_found_at_his_next_program(lab, kernel):
    """What nobody took in, and the kernel side did not see coming."""
    with lab.session(watched=False) as session:
        stranger = session.puppet()
        session.watch()
        stranger("getpid")
        assert kernel.task_slot(stranger.pid) == 0
        argv = stranger.place_texts(b"family", b"exit", b"7")
        stranger.become("execve", lab.program("family").encode(), argv, stranger.place_texts())
        exit_ = session.wait(Exited)
        assert (exit_.tgid, os.waitstatus_to_exitcode(exit_.code)) == (stranger.pid, 7)


def test_two_sessions_do_not_hear_of_each_other(inside, lab, scratch):
    with lab.session() as other:
        mine, yours = inside.puppet(), other.puppet()
        touch(mine, scratch / "mine")
        touch(yours, scratch / "yours")
        assert {e.tgid for e in inside.events()} == {mine.pid}
        assert {e.tgid for e in other.events()} == {yours.pid}


@pytest.mark.parametrize(("slot", "cgroup", "level"), [(0, 7, 1), (9, 0, 1), (9, 7, 0), (9, 7, 13)])
def test_a_session_that_would_match_all_or_nothing_is_refused(kernel, slot, cgroup, level):
    with pytest.raises(CaptureError):
        kernel.watch(slot, cgroup, level)


def test_the_monitor_is_never_in_scope_not_even_in_the_sessions_cgroup(
    inside, kernel, lab, scratch
):
    home = cgroups.cgroup_of(os.getpid(), lab.cgroup_root)
    assert cgroups.move(os.getpid(), inside.cgroup)
    try:
        (scratch / "file").write_text("the monitor at work")
    finally:
        assert cgroups.move(os.getpid(), home)
    assert inside.events() == []
    assert kernel.task_slot(os.getpid()) == 0


def test_forgetting_a_session_takes_its_tasks_and_its_cgroup_out(inside, puppet, kernel, scratch):
    touch(puppet, scratch / "before")
    assert kernel.task_slot(puppet.pid) == inside.slot
    kernel.quarantine(inside.slot, on=True)
    kernel.forget(inside.slot)
    inside.forget_events()
    touch(puppet, scratch / "after")
    assert inside.events() == []
    assert kernel.task_slot(puppet.pid) == 0
    with listener() as server:
        connect(puppet, address("127.0.0.1", server.getsockname()[1]))


def test_a_slot_that_is_used_again_starts_from_nothing(inside, puppet, kernel):
    with listener() as server:
        send(puppet, connect(puppet, address("127.0.0.1", server.getsockname()[1])), b"abc")
    kernel.quarantine(inside.slot, on=True)
    assert kernel.egress_bytes(inside.slot) == (3, 0)
    kernel.forget(inside.slot)
    inside.watch()
    assert kernel.egress_bytes(inside.slot) == (0, 0)
    with listener() as server:
        connect(puppet, address("127.0.0.1", server.getsockname()[1]))


def test_a_process_put_in_scope_by_hand_is_followed_with_its_children(lab, kernel, scratch):
    with lab.session() as inside, lab.session(watched=False) as outside:
        parent = outside.ready("family", "children", "0")
        kernel.watch_task(inside.slot, parent.pid)
        assert kernel.task_slot(parent.pid) == inside.slot
        parent.kill()
        parent.wait()
        assert [e.tgid for e in inside.events(Exited)] == [parent.pid]


@pytest.mark.usefixtures("inside")
def test_every_program_is_attached_by_the_kernels_own_word(kernel):
    assert all(kernel.programs().values())
    if kernel.tier is Tier.TRACEPOINT:
        assert len(kernel.programs()) == 12
    else:
        hooks = set(LSM_HOOKS) - set(kernel.missing)
        assert {LSM_PREFIX + hook for hook in hooks} < set(kernel.programs())
