# SPDX-License-Identifier: Apache-2.0
"""A cgroup that is not ours outlives its session: who comes there afterwards is no session's."""

from __future__ import annotations

import time

import pytest
from laboratory import until
from structlog.testing import capture_logs

from monitor.casebook import Casebook
from monitor.errors import SessionStateError
from monitor.lifecycle import Lifecycle
from monitor.memories import Memories
from monitor.record.store import Store
from monitor.response.grants import Grants
from monitor.sessions import cgroups
from monitor.subjects import State
from monitor.supervisor import Supervisor


@pytest.fixture
def lifecycle(lab, registry, killswitch, tmp_path):
    store = Store(tmp_path / "state" / "alerts.db")
    grants = Grants(lab.kernel.grant)
    book = Casebook(store)
    yield Lifecycle(lab.kernel, registry, killswitch, store, grants, book, Memories(store))
    store.close()


@pytest.fixture
def look(lifecycle, registry):
    """Twice, with all that happened observed in between."""

    def look():
        lifecycle.end_empty_ones()
        registry.caught_up(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        with capture_logs() as logs:
            lifecycle.end_empty_ones()
        return [entry["processes"] for entry in logs if entry["event"] == "session.not_followed"]

    return look


@pytest.fixture
def freeze(registry):
    """As a person does who asks for it."""
    supervisor = object.__new__(Supervisor)
    supervisor._registry = registry
    return lambda live: supervisor.freeze(live.id, who="ann", why="")


@pytest.fixture
def emptied(free, attach):
    """A session whose only process has ended."""
    process = free.ready("family", "children", "0")
    live = attach(process.pid)
    process.kill()
    process.wait()
    assert until(lambda: "populated 0" in (free.cgroup / "cgroup.events").read_text())
    return live


def made_anew(free):
    """As a service manager does it."""
    before = free.cgroup.stat().st_ino
    free.cgroup.rmdir()
    free.cgroup.mkdir()
    assert free.cgroup.stat().st_ino != before


def is_over(live, registry, kernel):
    return registry.live() == [] and live.slot not in kernel.sessions()


def test_a_session_whose_cgroup_was_made_anew_has_ended(
    emptied, free, look, registry, kernel, freeze
):
    made_anew(free)
    stranger = free.ready("family", "children", "0")
    assert look() == [1]
    assert is_over(emptied, registry, kernel)
    assert emptied.state is State.EXITED
    assert stranger.poll() is None
    assert kernel.task_slot(stranger.pid) == 0
    with pytest.raises(SessionStateError, match="is exited"):
        freeze(emptied)


def test_a_session_that_was_seen_empty_ends_whoever_comes_there_afterwards(
    emptied, free, lifecycle, look, registry, kernel, freeze
):
    lifecycle.end_empty_ones()
    stranger = free.ready("family", "children", "0")
    assert kernel.task_slot(stranger.pid) == emptied.slot
    assert look() == [1]
    assert is_over(emptied, registry, kernel)
    assert stranger.poll() is None
    assert kernel.task_slot(stranger.pid) == 0
    with pytest.raises(SessionStateError, match="is exited"):
        freeze(emptied)


def test_of_a_session_that_ended_and_left_nobody_nothing_is_said(emptied, look, registry, kernel):
    assert look() == []
    assert is_over(emptied, registry, kernel)


def test_whoever_came_afterwards_may_be_attached_again(emptied, free, look, attach, kernel):
    made_anew(free)
    stranger = free.ready("family", "children", "0")
    look()
    assert kernel.task_slot(stranger.pid) == 0
    assert attach(stranger.pid).cgroup == free.cgroup
    assert look() == []
    assert kernel.task_slot(stranger.pid)


@pytest.mark.parametrize("prepared", [True, False])
def test_no_stop_meets_who_is_in_a_cgroup_that_was_made_anew(emptied, free, killswitch, prepared):
    if prepared:
        killswitch.prepare(emptied)
    made_anew(free)
    stranger = free.ready("family", "children", "0")
    report = killswitch.freeze(emptied)
    assert (report.done, report.detail) == (
        True,
        "the session ended by itself and its cgroup is gone",
    )
    assert not killswitch.is_frozen(emptied)
    assert killswitch.resume(emptied).done
    assert killswitch.kill(emptied).done
    assert (free.cgroup / "cgroup.freeze").read_text() == "0\n"
    assert stranger.poll() is None


def test_who_lives_elsewhere_while_another_cgroup_has_the_place_is_stopped_beside_it(
    free, attach, lab, killswitch, registry, look, kernel
):
    process, away = free.ready("family", "children", "0"), lab.empty_cgroup()
    live = attach(process.pid)
    killswitch.prepare(live)
    (away / "cgroup.procs").write_text(str(process.pid))
    made_anew(free)
    stranger = free.ready("family", "children", "0")
    assert look() == []
    assert registry.live() == [live]
    assert cgroups.members(free.cgroup) == [stranger.pid]
    report = killswitch.freeze(live)
    assert report.done, report.detail
    assert live.cgroup != free.cgroup
    assert cgroups.members(live.cgroup) == [process.pid]
    assert kernel.sessions()[live.slot] == live.cgroup_id == live.cgroup.stat().st_ino
    assert killswitch.kill(live).done
    assert process.wait(5) == -9
    assert stranger.poll() is None
    assert look() == []
    assert is_over(live, registry, kernel)
    assert not live.cgroup.exists()


def test_the_end_of_a_monitor_is_the_end_of_a_session_that_was_seen_empty(
    emptied, free, lifecycle, registry, kernel
):
    lifecycle.end_empty_ones()
    free.ready("family", "children", "0")
    lifecycle.leave()
    assert is_over(emptied, registry, kernel)
