# SPDX-License-Identifier: Apache-2.0
"""A freeze, a kill and a resume do what they say, and say when."""

from __future__ import annotations

import os
import select
import time

import pytest
from aim import Aim
from laboratory import until
from wires import address, connect, listener

from monitor.response.cgroup_files import CgroupFiles
from monitor.response.holds import Holds
from monitor.response.killswitch import KillSwitch
from monitor.sessions import cgroups


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def says(cgroup):
    return (cgroup / "cgroup.events").read_text().split()


# Freeze and kill --------------------------------------------------------------------------------


@pytest.mark.parametrize("restless", ["forks", "execs", "vforks", "traces"])
def test_a_freeze_is_confirmed_and_nothing_moves_any_more(inside, killswitch, restless):
    inside.ready("restless", restless)
    report = killswitch.freeze(inside)
    assert report.done, report.detail
    assert report.steps_ns["cut"] < report.steps_ns["frozen"]
    assert "frozen 1" in (inside.cgroup / "cgroup.events").read_text()
    assert killswitch.is_frozen(inside)
    inside.forget_events()
    time.sleep(0.03)
    assert inside.events() == []


@pytest.mark.parametrize("restless", ["forks", "execs", "vforks", "traces"])
def test_a_kill_leaves_nobody(inside, killswitch, restless):
    process = inside.ready("restless", restless)
    report = killswitch.kill(inside)
    assert report.done, report.detail
    assert list(report.steps_ns) == ["cut", "frozen", "killed", "empty"]
    assert says(inside.cgroup) == ["populated", "0", "frozen", "1"]
    assert killswitch.is_empty(inside)
    assert process.wait() == -9


def test_a_kill_reaches_cgroups_that_the_session_made_below_its_own(inside, lab, killswitch):
    below = inside.cgroup / "below"
    below.mkdir()
    with lab.session(watched=False) as outside:  # who is inside may be refused to go there
        process = outside.ready("enter", str(below), lab.program("family"), "children", "3")
        assert len(list(cgroups.members(below))) == 4
        assert killswitch.kill(inside).done
        process.wait()
    assert list(cgroups.members(inside.cgroup)) == []


def test_a_second_freeze_and_a_second_kill_change_nothing(inside, killswitch):
    inside.ready("family", "children", "1")
    assert killswitch.freeze(inside).done
    assert killswitch.freeze(inside).done
    assert killswitch.kill(inside).done
    assert killswitch.kill(inside).done


def test_the_stop_of_a_session_whose_cgroup_is_gone_is_done(lab, killswitch):
    aim = Aim("gone", 50, lab.empty_cgroup())
    aim.cgroup.rmdir()
    report = killswitch.kill(aim)
    assert report.done
    assert "empty" in report.steps_ns


# Resume and release -----------------------------------------------------------------------------


def test_resume_lets_it_run_and_gives_the_network_back(inside, puppet, killswitch):
    with listener() as server:
        to = address("127.0.0.1", server.getsockname()[1])
        assert killswitch.freeze(inside).done
        puppet.become("getpid")  # answered only once it runs again
        assert not select.select([puppet.process.stdout], [], [], 0.05)[0]
        report = killswitch.resume(inside)
        assert report.done
        assert "resumed" in report.steps_ns
        assert puppet.answer() == puppet.pid
        connect(puppet, to)


def test_a_kill_reaches_whose_main_thread_has_ended(inside, killswitch):
    process = inside.ready("family", "outlived")
    report = killswitch.kill(inside)
    assert report.done, report.detail
    assert process.wait(5) == -9


def test_a_kill_reaches_who_was_moved_without_his_main_thread(lab, inside, killswitch):
    with lab.session(watched=False) as before:
        process = before.ready("family", "outlived")
        (inside.cgroup / "cgroup.procs").write_text(str(process.pid))
        assert cgroups.members(inside.cgroup) == [process.pid]
        assert cgroups.members(before.cgroup) == []
        report = killswitch.kill(inside)
        assert report.done, report.detail
        assert process.wait(5) == -9


def test_what_was_contained_for_nothing_goes_on(inside, puppet, killswitch):
    killswitch.contain(inside)
    assert until(lambda: killswitch.is_frozen(inside))  # it is begun, and not waited for
    assert killswitch.release(inside, puppet.pid)
    assert puppet("getpid") == puppet.pid
    assert not killswitch.is_frozen(inside)


def test_who_is_stopped_while_he_is_contained_stays_stopped_until_he_is_resumed(
    inside, puppet, killswitch
):
    killswitch.contain(inside)
    assert killswitch.freeze(inside).done
    assert not killswitch.release(inside, puppet.pid)
    assert not killswitch.uncontain(inside)
    assert killswitch.is_frozen(inside)
    assert killswitch.resume(inside).done
    assert puppet("getpid") == puppet.pid


def test_a_verdict_that_passes_does_not_thaw_what_was_not_contained_for_it(
    inside, puppet, killswitch
):
    killswitch.contain(inside)
    assert killswitch.freeze(inside).done
    assert killswitch.resume(inside).done
    (inside.cgroup / "cgroup.freeze").write_text("1")  # the agent's own container does that too
    assert killswitch.release(inside, puppet.pid)
    assert (inside.cgroup / "cgroup.freeze").read_text() == "1\n"
    (inside.cgroup / "cgroup.freeze").write_text("0")


# Order and time ---------------------------------------------------------------------------------


def test_the_network_is_cut_before_the_freeze_is_asked_for(inside, lab):
    order = []

    def cut(slot, on):
        order.append(("cut", slot, on, says(inside.cgroup)))

    switch = KillSwitch(cut, Holds(lab.kernel), cgroup_root=lab.cgroup_root, deadline_ms=1000)
    inside.ready("family", "children", "0")
    assert switch.freeze(inside).done
    assert order == [("cut", inside.slot, True, ["populated", "1", "frozen", "0"])]


@pytest.mark.parametrize("restless", ["forks", "execs", "vforks"])
def test_the_moment_of_the_freeze_is_the_kernels_and_not_when_it_was_asked_for(
    inside, killswitch, kernel, restless, monkeypatch
):
    """Who comes late to look, because somebody else had the processor, is told the truth."""
    inside.ready("restless", restless)
    assert kernel.still_since(inside.slot) == 0
    wait = killswitch._wait

    def late(*a):
        done = wait(*a)
        time.sleep(0.02)
        return done

    monkeypatch.setattr(killswitch, "_wait", late)
    report = killswitch.freeze(inside)
    assert report.done
    frozen_ns = report.steps_ns["frozen"]
    assert frozen_ns == kernel.still_since(inside.slot)
    assert report.steps_ns["cut"] < frozen_ns < now_ns() - 20_000_000
    assert killswitch.resume(inside).done
    assert kernel.still_since(inside.slot) == 0


def test_a_session_that_stood_still_already_is_frozen_from_when_that_was_asked_for(
    inside, killswitch
):
    inside.ready("family", "children", "0")
    first = killswitch.freeze(inside)
    again = killswitch.freeze(inside)
    assert first.steps_ns["frozen"] < again.steps_ns["cut"] == again.steps_ns["frozen"]


def test_what_is_below_a_session_does_not_speak_for_it(inside, lab, kernel):
    below = inside.cgroup / "below"
    below.mkdir()
    inside.ready("family", "children", "0")
    (below / "cgroup.freeze").write_text("1")
    assert kernel.still_since(inside.slot) == 0


# Recall -----------------------------------------------------------------------------------------


def test_recall_brings_a_process_that_left_back_under_the_freeze(inside, puppet, lab, killswitch):
    away = lab.empty_cgroup()
    assert cgroups.move(puppet.pid, away)
    assert killswitch.recall(inside, puppet.pid)
    assert list(cgroups.members(inside.cgroup)) == [puppet.pid]
    assert killswitch.freeze(inside).done


def test_recall_of_a_process_that_ended_says_so(inside, killswitch):
    process = inside.start("family", "exit", "0")
    process.wait()
    assert not killswitch.recall(inside, process.pid)


# When it is over --------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["contain", "freeze", "kill"])
def test_a_cgroup_that_is_used_again_after_its_session_is_not_frozen_for_ever(
    inside, killswitch, verb
):
    inside.ready("family", "children", "0")
    getattr(killswitch, verb)(inside)
    assert (inside.cgroup / "cgroup.freeze").read_text() == "1\n"
    killswitch.forget(inside)
    assert (inside.cgroup / "cgroup.freeze").read_text() == "0\n"


def test_a_cgroup_that_its_own_master_froze_stays_so_after_the_session(inside, killswitch):
    (inside.cgroup / "cgroup.freeze").write_text("1")
    killswitch.prepare(inside)
    killswitch.forget(inside)
    assert (inside.cgroup / "cgroup.freeze").read_text() == "1\n"


def test_who_still_waits_when_the_session_is_over_reads_no_other_file(inside):
    in_use = {"session": CgroupFiles(inside)}
    number, others = in_use["session"].events_fd, []

    def meanwhile(passed_ns):
        in_use.clear()  # what `forget` does
        others.append(os.open("/dev/null", os.O_RDONLY))
        return passed_ns < 1_000_000

    assert not in_use["session"].wait("something else", meanwhile)
    assert number not in others
    others.append(os.open("/dev/null", os.O_RDONLY))
    assert number in others  # and then it is given back
    for file in others:
        os.close(file)
