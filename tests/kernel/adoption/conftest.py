# SPDX-License-Identifier: Apache-2.0
"""Somebody to take in, and who does so."""

from __future__ import annotations

import pytest

from monitor.sessions.observer import Observer
from monitor.sessions.registry import Registry
from monitor.subjects import Mode, State


@pytest.fixture
def labelled():
    """Sessions in which something was said to have touched a secret."""
    return []


@pytest.fixture
def registry(lab, facts, killswitch):
    registry = Registry(
        lab.kernel,
        facts,
        cgroup_root=lab.cgroup_root,
        cgroup_name=str(lab.base.relative_to(lab.cgroup_root)),
        unfollowed=killswitch.forget,
    )
    yield registry
    for live in registry.live():
        lab.evict(live.cgroup)
        registry.close(live, State.EXITED)


@pytest.fixture
def observer(lab, facts, registry, labelled):
    return Observer(registry, lab.kernel, facts, labelled=labelled.append)


@pytest.fixture
def attach(registry, lab):
    def attach(pid):
        live = registry.attach(pid, name="agent", mode=Mode.ENFORCE)
        lab.accept(live.slot)
        return live

    return attach


@pytest.fixture
def free(lab):
    """A cgroup of no session, where a tree may already run."""
    with lab.session(watched=False) as session:
        yield session


@pytest.fixture
def shared(free):
    """The same, with a stranger in it who must be left alone."""
    stranger = free.ready("family", "children", "0")
    yield free
    assert stranger.poll() is None
