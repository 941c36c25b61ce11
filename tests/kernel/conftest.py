# SPDX-License-Identifier: Apache-2.0
"""The programs are loaded once for all tests; every test has a session of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from environment import kept
from laboratory import Laboratory

from monitor.capture.kernel import KernelSettings, load
from monitor.lowered import Lowered
from monitor.response.holds import Holds
from monitor.response.killswitch import KillSwitch
from monitor.response.verdicts import Verdicts
from monitor.sessions import cgroups
from monitor.sessions.facts import FactMaker
from monitor.sessions.places import HostMounts, Roots
from monitor.sessions.watched import WatchedPaths
from monitor.tier import Tier

BPF = Path(__file__).parents[2] / "bpf"


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.kernel)


@pytest.fixture(scope="session")
def kernel_settings(request, tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("loading BPF and making cgroups needs root")

    def settings(**changes):
        fixed = {
            "runtime_dir": tmp_path_factory.mktemp("run"),
            "header_cache": kept(request.config),
        } | changes
        return KernelSettings(
            source=BPF,
            cgroup_root=cgroups.find_root(),
            monitor_pid=os.getpid(),
            **fixed,
        )

    return settings


@pytest.fixture(scope="session")
def lab(kernel_settings, tmp_path_factory):
    with load(kernel_settings()) as kernel:
        laboratory = Laboratory(kernel, cgroups.find_root(), tmp_path_factory.mktemp("programs"))
        try:
            yield laboratory
        finally:
            laboratory.close()
    assert not laboratory.strangers


@pytest.fixture
def kernel(lab):
    return lab.kernel


@pytest.fixture
def nothing_refused(kernel):
    """For what the other tier refuses: tests/kernel/lsm has the same act."""
    if kernel.tier is Tier.LSM:
        pytest.skip("refused on this tier: tests/kernel/lsm")


@pytest.fixture
def inside(lab):
    with lab.session() as session:
        yield session


@pytest.fixture
def puppet(inside):
    return inside.puppet()


@pytest.fixture
def scratch(tmp_path):
    """A directory whose path is the kernel's own spelling."""
    return tmp_path.resolve()


@pytest.fixture
def killswitch(lab):
    return KillSwitch(
        lambda slot, on: lab.kernel.quarantine(slot, on=on),
        Holds(lab.kernel),
        cgroup_root=lab.cgroup_root,
        displaced=lab.kernel.displaced,
        still_since=lab.kernel.still_since,
        followed=lab.kernel.followed,
        made_anew=lab.kernel.follow,
        deadline_ms=1000,
    )


@pytest.fixture
def facts():
    mounts = HostMounts()
    yield FactMaker(WatchedPaths([]), mounts, Roots())
    mounts.close()


@pytest.fixture
def verdicts(kernel):
    """What the kernel looks for; nothing when the test is over."""
    made = Verdicts(kernel)
    yield made
    made.replace(Lowered())
    made.follow({})


@pytest.fixture
def holds(kernel):
    return Holds(kernel)
