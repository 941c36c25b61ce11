# SPDX-License-Identifier: Apache-2.0
"""What binds a process is the smallest limit on its way up; files as cgroupfs has them."""

from __future__ import annotations

import pytest

from monitor.sessions.cgroups import limits_of


@pytest.fixture
def scope(here):
    """A scope of a user below his slice; the root has files here that must not be asked."""
    root = here / "cgroup2"
    scope = root / "user.slice" / "user-1000.slice" / "session-2.scope"
    scope.mkdir(parents=True)
    for name in ("pids.max", "memory.max", "cpu.max"):
        (root / name).write_text("1\n")
        (here / name).write_text("1\n")
    return root, scope


@pytest.mark.parametrize("up", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "smallest", "others"),
    [
        ("pids.max", "90", ("max", "100")),
        ("memory.max", "0", ("max", "8192")),
        ("cpu.max", "50000 100000", ("max 100000", "30000 50000")),
    ],
)
def test_the_smallest_limit_binds_wherever_it_stands(scope, up, name, smallest, others):
    root, cgroup = scope
    levels = [cgroup, *cgroup.parents][:3]
    (levels[up] / name).write_text(f"{smallest}\n")
    for level, text in zip((at for at in levels if at != levels[up]), others, strict=True):
        (level / name).write_text(f"{text}\n")
    assert limits_of(cgroup, root) == {name: smallest}


def test_nothing_binds_without_controllers_nor_where_all_is_allowed(scope):
    root, cgroup = scope
    assert limits_of(cgroup, root) == {}
    (cgroup / "cpu.max").write_text("max 100000\n")
    (cgroup.parent / "pids.max").write_text("max\n")
    assert limits_of(cgroup, root) == {}
    assert limits_of(root, root) == {}
