# SPDX-License-Identifier: Apache-2.0
"""Whom a stop must not meet: the root of the hierarchy, init, and the monitor itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from monitor.errors import GuardError
from monitor.response.cgroup_files import cgroup_line
from monitor.response.standing import Target


class Guard:
    """Asked again at every act: somebody may have moved init or the monitor since the last one."""

    def __init__(self, cgroup_root: Path, displaced: Callable[[], int] | None = None) -> None:
        """`displaced` counts how often init or the monitor was moved; without it, each act looks."""
        self._root = str(cgroup_root)
        self._displaced = displaced
        self._passed: dict[str, int] = {}
        """Session id -> what `displaced` said when its cgroup was found fit to be stopped."""
        # Held open: procfs tells anew at every read, and opening costs more than reading.
        self._never = [
            (os.open(f"/proc/{pid}/cgroup", os.O_RDONLY | os.O_CLOEXEC), whose)
            for pid, whose in ((1, "init"), (os.getpid(), "the monitor"))
        ]

    def check(self, target: Target) -> None:
        """GuardError, unless this is the cgroup of a session in which neither of the two is.

        Where the kernel counts who was moved, nobody has to be looked for until it counted again:
        procfs takes 20 us for its answer, and this stands between the act and the freeze.
        """
        moves = self._displaced() if self._displaced is not None else None
        if moves is not None and self._passed.get(target.id) == moves:
            return
        # Text and not Path: ten times as fast.
        cgroup = str(target.cgroup)
        if target.slot < 1 or not cgroup.startswith(self._root + "/") or "/.." in cgroup:
            raise GuardError(f"{cgroup} is not the cgroup of a session below {self._root}")
        below = cgroup.removeprefix(self._root) + "/"
        for file, whose in self._never:
            if f"{cgroup_line(file)}/".startswith(below):
                raise GuardError(f"{whose} is in {cgroup}: it will not be stopped")
        if moves is not None:
            self._passed[target.id] = moves

    def forget(self, target: Target) -> None:
        """The session is over."""
        self._passed.pop(target.id, None)

    def close(self) -> None:
        """Give the descriptors back."""
        for file, _ in self._never:
            os.close(file)
