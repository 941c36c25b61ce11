# SPDX-License-Identifier: Apache-2.0
"""A tree that already runs, brought under watch: its processes, its open files, its sockets.

Between a look at /proc and the kernel's map a process may fork, so each is put in the map first and
the sweep is repeated until it finds nobody new: from then on the kernel follows every child.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psutil
from pyroute2 import DiagSocket

from monitor import events
from monitor.errors import AttachError
from monitor.sessions import cgroups
from monitor.subjects import Origin

_MAX_SWEEPS = 50
_TCP_UDP = (6, 17)
_ALL_STATES = 0xFFF


class Scope(Protocol):
    """The part of `capture.kernel.Kernel` that puts things in scope."""

    def watch(self, slot: int, cgroup_id: int, level: int) -> None:
        """Put a cgroup and all below it in scope."""
        ...

    def watch_task(self, slot: int, pid: int) -> None:
        """Put a process in scope."""
        ...

    def watch_socket(self, slot: int, cookie: int) -> None:
        """Put a socket in scope of the network cut."""
        ...

    def task_slot(self, pid: int) -> int:
        """The session a process is in, 0 for none."""
        ...

    def forget(self, slot: int) -> None:
        """Take a session out of scope."""
        ...


def tree_of(pid: int) -> list[int]:
    """A process and all that descend from it, as /proc tells now."""
    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.NoSuchProcess as error:
        raise AttachError(
            f"process {pid} does not exist", mend="look with `ps` for the agent's pid"
        ) from error


def choose_cgroup(pid: int, root: Path) -> tuple[Origin, Path | None]:
    """The cgroup the tree has to itself, or None where it shares one and has to be moved."""
    cgroup = cgroups.cgroup_of(pid, root)
    if cgroup == root:
        return Origin.MOVED, None
    tree = set(tree_of(pid))
    if set(cgroups.members(cgroup)) <= tree:
        return Origin.ATTACHED, cgroup
    return Origin.MOVED, None


def sweep(pid: int, slot: int, scope: Scope, into: Path | None) -> list[int]:
    """Put the whole tree in scope (and into a cgroup); every pid that was found."""
    found: list[int] = []
    for _ in range(_MAX_SWEEPS):
        new = [p for p in tree_of(pid) if p not in found]
        if not new:
            return found
        for process in new:
            scope.watch_task(slot, process)
            if into is not None:
                cgroups.move(process, into)
        found += new
    raise AttachError(
        f"the tree of process {pid} forks faster than it can be adopted",
        mend="start the agent with `estop run` instead",
    )


def watch_sockets(pids: list[int], slot: int, scope: Scope) -> int:
    """Put sockets that are open already in scope of the network cut; how many."""
    inodes = set()
    for pid in pids:
        for _, target in _descriptors(pid):
            if target.startswith("socket:["):
                inodes.add(int(target[8:-1]))
    watched = 0
    with DiagSocket() as diag:
        for family in (2, 10):
            for protocol in _TCP_UDP:
                for sock in diag.get_sock_stats(
                    family=family, protocol=protocol, states=_ALL_STATES
                ):
                    if sock["idiag_inode"] in inodes:
                        low, high = sock["idiag_cookie"]
                        scope.watch_socket(slot, high << 32 | low)
                        watched += 1
    return watched


def _descriptors(pid: int) -> Iterator[tuple[str, str]]:
    base = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(base)
    except OSError:
        return
    for number in numbers:
        try:
            yield number, os.readlink(f"{base}/{number}")
        except OSError:
            continue  # closed while we looked


def open_files(pid: int, slot: int, ktime_ns: int, view: events.View) -> Iterator[events.Opened]:
    """Files the process holds open already, as if it opened them now."""
    for number, target in _descriptors(pid):
        if not target.startswith("/"):
            continue
        try:
            info = os.stat(f"/proc/{pid}/fd/{number}")
            text = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
        except OSError:
            continue
        if not stat.S_ISREG(info.st_mode):
            continue
        flags = next(int(r.split()[1], 8) for r in text.splitlines() if r.startswith("flags:"))
        access = {
            os.O_RDONLY: events.Access.READ,
            os.O_WRONLY: events.Access.WRITE,
            os.O_RDWR: events.Access.READ | events.Access.WRITE,
        }.get(flags & os.O_ACCMODE)
        if access is None or flags & os.O_PATH:
            continue
        path = events.Path(target, target, info.st_dev)
        yield events.Opened(
            ktime_ns=ktime_ns,
            egress_bytes=0,
            slot=slot,
            tgid=pid,
            tid=pid,
            uid=info.st_uid,
            view=view,
            cut=False,
            file=events.File(path, info.st_ino, 0, info.st_mode, info.st_nlink),
            access=access,
            repeats=0,
        )
