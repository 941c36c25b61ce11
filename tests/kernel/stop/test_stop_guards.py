# SPDX-License-Identifier: Apache-2.0
"""The stop does not touch what is not a session's, nor what the monitor or init is in."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from aim import Aim

from monitor.errors import GuardError
from monitor.response import cgroup_files
from monitor.response import guard as guard_module
from monitor.response import killswitch as killswitch_module
from monitor.response.holds import Holds
from monitor.response.killswitch import KillSwitch
from monitor.sessions import cgroups


def pid_of(file):
    """Whose /proc/PID/cgroup a descriptor is."""
    return int(Path(f"/proc/self/fd/{file}").readlink().parts[2])


def aims(lab, session):
    root = lab.cgroup_root
    return {
        "the root": Aim("x", 50, root),
        "outside of the hierarchy": Aim("x", 50, Path("/tmp")),
        "a sibling by its spelling": Aim("x", 50, Path(f"{root}-other/x")),
        "a path that climbs": Aim("x", 50, session.cgroup / ".." / ".."),
        "slot 0": Aim("x", 0, session.cgroup),
    }


@pytest.fixture
def nothing_written(monkeypatch):
    """A guard that fails must fail the test, and not freeze the one who runs it."""

    def write(cgroup, name, value):
        raise AssertionError(f"{value!r} would have been written to {cgroup}/{name}")

    def freeze(files, value):
        raise AssertionError(f"{value!r} would have been written to a cgroup.freeze")

    monkeypatch.setattr(killswitch_module, "write_to", write)
    monkeypatch.setattr(cgroup_files, "write_to", write)
    monkeypatch.setattr(killswitch_module.CgroupFiles, "freeze", freeze)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize("verb", ["freeze", "resume", "kill"])
@pytest.mark.parametrize(
    "which",
    [
        "the root",
        "outside of the hierarchy",
        "a sibling by its spelling",
        "a path that climbs",
        "slot 0",
    ],
)
def test_a_guard_refuses(inside, lab, which, verb):
    cut = []
    switch = KillSwitch(
        lambda *a: cut.append(a), Holds(lab.kernel), cgroup_root=lab.cgroup_root, deadline_ms=100
    )
    process = inside.ready("family", "children", "0")
    with pytest.raises(GuardError):
        getattr(switch, verb)(aims(lab, inside)[which])
    assert not cut
    assert process.poll() is None


@contextmanager
def joined(cgroup, root):
    """The test itself in a cgroup; nothing may be written there but this."""
    home = cgroups.cgroup_of(os.getpid(), root)
    assert cgroups.move(os.getpid(), cgroup)
    try:
        yield
    finally:
        assert cgroups.move(os.getpid(), home)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize("depth", ["its own", "one above"])
def test_the_cgroup_the_monitor_is_in_is_refused(inside, lab, depth):
    below = inside.cgroup / "below"
    below.mkdir()
    cut = []
    switch = KillSwitch(
        lambda *a: cut.append(a), Holds(lab.kernel), cgroup_root=lab.cgroup_root, deadline_ms=100
    )
    with joined(inside.cgroup if depth == "its own" else below, lab.cgroup_root):
        with pytest.raises(GuardError, match="the monitor"):
            switch.freeze(inside)
        with pytest.raises(GuardError, match="the monitor"):
            switch.kill(inside)
    assert not cut


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize("act", ["contain", "freeze", "kill"])
def test_the_monitor_that_was_moved_after_the_guard_looked_is_still_not_stopped(inside, lab, act):
    switch = KillSwitch(
        lambda *_: None,
        Holds(lab.kernel),
        cgroup_root=lab.cgroup_root,
        displaced=lab.kernel.displaced,
    )
    switch.prepare(inside)
    with joined(inside.cgroup, lab.cgroup_root), pytest.raises(GuardError, match="the monitor"):
        getattr(switch, act)(inside)


@pytest.mark.usefixtures("nothing_written")
def test_the_cgroup_init_is_in_is_refused(inside, lab, monkeypatch):
    # Init is not ours to move: what /proc says of it is all that can be changed.
    where = f"/{inside.cgroup.relative_to(lab.cgroup_root)}"
    lines = {1: where + "/deeper", os.getpid(): "/"}
    monkeypatch.setattr(guard_module, "cgroup_line", lambda file: lines[pid_of(file)])
    with pytest.raises(GuardError, match="init"):
        KillSwitch(lambda *_: None, Holds(lab.kernel), cgroup_root=lab.cgroup_root).freeze(inside)


def test_a_cgroup_whose_name_only_begins_like_the_monitors_is_not_refused(lab, monkeypatch):
    with lab.session() as session:
        name = f"/{session.cgroup.relative_to(lab.cgroup_root)}"
        monkeypatch.setattr(guard_module, "cgroup_line", lambda _: name + "-monitor")
        session.ready("family", "children", "0")
        assert (
            KillSwitch(lambda *_: None, Holds(lab.kernel), cgroup_root=lab.cgroup_root)
            .freeze(session)
            .done
        )
