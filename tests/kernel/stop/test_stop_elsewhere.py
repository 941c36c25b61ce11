# SPDX-License-Identifier: Apache-2.0
"""Who belongs to a session and lives in another cgroup is stopped with it, and keeps it from ending."""

from __future__ import annotations

import pytest
from laboratory import until

from monitor.sessions import cgroups


@pytest.fixture
def away(lab):
    """A cgroup of nobody's, which is empty when the test is over."""
    cgroup = lab.empty_cgroup()
    yield cgroup
    lab.evict(cgroup)


@pytest.fixture(params=[("children", "0"), ("outlived",)], ids=["whole", "outlived"])
def escaped(request, inside, away):
    """The session's only process, and it is elsewhere; its main thread may have ended."""
    process = inside.ready("family", *request.param)
    (away / "cgroup.procs").write_text(str(process.pid))
    return process


def test_a_kill_reaches_who_lives_in_another_cgroup(inside, escaped, killswitch):
    report = killswitch.kill(inside)
    assert report.done, report.detail
    assert escaped.wait(5) == -9
    assert killswitch.is_empty(inside)


def test_who_left_his_cgroup_and_removed_it_is_frozen_in_a_new_one(
    inside, escaped, killswitch, kernel
):
    inside.cgroup.rmdir()
    report = killswitch.freeze(inside)
    assert report.done, report.detail
    assert list(cgroups.members(inside.cgroup)) == [escaped.pid]
    assert killswitch.is_frozen(inside)
    assert inside.cgroup.stat().st_ino in kernel.sessions().values()
    assert killswitch.kill(inside).done
    assert escaped.wait(5) == -9


def test_who_removed_his_cgroup_and_cannot_be_brought_back_is_not_said_to_be_stopped(
    inside, escaped, killswitch, monkeypatch
):
    inside.cgroup.rmdir()
    monkeypatch.setattr(killswitch, "recall", lambda target, pid: False)
    with pytest.raises(OSError, match=f"{escaped.pid} cannot be brought back"):
        killswitch.freeze(inside)


def test_a_session_of_which_somebody_lives_elsewhere_has_not_ended(inside, escaped, killswitch):
    assert killswitch.is_empty(inside)
    assert killswitch.gather(inside) == [escaped.pid]
    assert list(cgroups.members(inside.cgroup)) == [escaped.pid]


def test_who_has_ended_is_not_waited_for(inside, escaped, killswitch):
    escaped.kill()
    assert until(lambda: not killswitch.gather(inside))
