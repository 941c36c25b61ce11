# SPDX-License-Identifier: Apache-2.0
"""A tree that already runs, brought under watch: its processes, its open files, its sockets.

Between a look at /proc and the kernel's map a process may fork, so each is put in the map first and
the sweep is repeated until it finds nobody new: from then on the kernel follows every child.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import psutil
import structlog

from monitor import events
from monitor.errors import AttachError, NotAllowedError
from monitor.procfs import acting, has_ended, uids_of
from monitor.sessions import cgroups, sockets
from monitor.sessions.sockets import Held
from monitor.subjects import Origin

_log = structlog.get_logger()

_MAX_SWEEPS = 50
_STREAMS = (0, 1, 2)


class Scope(Protocol):
    """The part of `capture.kernel.Kernel` that puts things in scope."""

    def watch(self, slot: int, cgroup_id: int, level: int, *, observed: bool = False) -> None:
        """Put a cgroup and all below it in scope; one that is observed is never held."""
        ...

    def watch_task(self, slot: int, pid: int) -> None:
        """Put a process in scope."""
        ...

    def forget_task(self, pid: int) -> None:
        """Take a process out of scope."""
        ...

    def watch_socket(self, slot: int, cookie: int) -> None:
        """Put a socket in scope of the network cut."""
        ...

    def task_slot(self, pid: int) -> int:
        """The session a process is in, 0 for none."""
        ...

    def taint(self, slot: int) -> None:
        """Something in the session has touched a secret."""
        ...

    def mark_file(self, slot: int, inode: int) -> None:
        """Tell of every read of this file."""
        ...

    def forget(self, slot: int) -> list[int]:
        """Take a session out of scope; its processes that were stopped for a verdict."""
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
    if not 1 <= cgroups.level_of(cgroup, root) <= cgroups.DEEPEST_LEVEL:
        return Origin.MOVED, None
    # The members first: whoever is born meanwhile must not look like a stranger.
    members = set(cgroups.members(cgroup))
    strangers = members - set(tree_of(pid))
    if any(not has_ended(stranger) for stranger in strangers):
        return Origin.MOVED, None
    return Origin.ATTACHED, cgroup


def new_cgroup(pid: int, parent: Path, name: str, root: Path) -> Path:
    """A cgroup for the session of a process, with the limits of the one that it will be taken out of.

    Who asks for a session must not get rid of what the administrator allows him. A limit that cannot
    be had there is told in the log.
    """
    limits = cgroups.limits_of(cgroups.cgroup_of(pid, root), root)
    cgroup = cgroups.make(parent, name)
    if missing := cgroups.limit(cgroup, limits):
        _log.warning("session.without_limits", session=name, limits=missing)
    return cgroup


def refuse_others(pids: Iterable[int], owner: int | None) -> None:
    """NotAllowedError if one of them is not the owner's by every uid it has; None may have everybody's.

    Who starts a setuid program has another's process below him, and may not have it stopped as his own.
    """
    for pid in pids if owner is not None else ():
        if others := set(uids_of(pid)) - {owner}:
            raise NotAllowedError(
                f"process {pid} belongs to uid {min(others)}",
                mend="ask root, or name a process that has only your own below it",
            )


class Moves:
    """Where processes were before they were moved, so that an adoption that fails can be undone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._before: dict[int, Path] = {}

    def move(self, pid: int, cgroup: Path) -> bool:
        """Move a process; False if it ended first."""
        with suppress(AttachError):
            self._before.setdefault(pid, cgroups.cgroup_of(pid, self._root))
        return cgroups.move(pid, cgroup)

    def undo(self, root_pid: int, cgroup: Path) -> None:
        """Move them back; who was born meanwhile goes where the tree's root was moved from."""
        for _ in range(_MAX_SWEEPS):
            back = {
                pid: before
                for pid in cgroups.members(cgroup)
                if (before := self._before.get(pid) or self._before.get(root_pid))
            }
            for pid, before in back.items():
                with suppress(OSError):  # systemd removes a scope that is left empty
                    cgroups.move(pid, before)
            if not back:
                return


def sweep(
    pid: int, slot: int, scope: Scope, cgroup: Path, moves: Moves, owner: int | None = None
) -> list[int]:
    """Put the whole tree in scope and into a cgroup, and who else is in there; every pid that was found.

    Nobody is taken out of another session (AttachError), nor from another user than the owner, if there
    is one (NotAllowedError). The last sweep looks at all of them once more: a number may have gone to
    another process between the look and the move, and a process may become another user's at any time.

    A child whose parent was in scope and in the cgroup already is so by birth, and is not news. Who
    comes into the cgroup once it is a session's is taken in by the kernel side.
    """
    found: dict[int, None] = {}
    for _ in range(_MAX_SWEEPS):
        there = set(cgroups.members(cgroup))
        tree = [p for p in dict.fromkeys((*tree_of(pid), *there)) if not has_ended(p)]
        refuse_others(tree, owner)
        slots = {p: scope.task_slot(p) for p in tree}
        if strangers := [p for p in tree if slots[p] not in {0, slot}]:
            raise AttachError(
                f"process {strangers[0]} came into another session meanwhile",
                mend="see `estop sessions`",
            )
        found.update(dict.fromkeys(tree))
        new = [p for p in tree if not slots[p] or p not in there]
        if not new:
            return list(found)
        for process in new:
            refuse_others([process], owner)
            scope.watch_task(slot, process)
            if process not in there:
                moves.move(process, cgroup)
            if has_ended(process):  # the kernel saw its end before our entry, which would stay
                scope.forget_task(process)
    raise AttachError(
        f"the tree of process {pid} forks faster than it can be adopted",
        mend="start the agent with `estop run` instead",
    )


def watch_sockets(pids: list[int], slot: int, scope: Scope) -> dict[int, list[Held]]:
    """Put sockets that are open already in scope of the network cut.

    By pid, what the processes hold connected; not their standard streams, which whoever started them chose.
    """
    holders: dict[int, int] = {}
    streams = set()
    for pid in pids:
        for number, target in _descriptors(pid):
            if target.startswith("socket:["):
                inode = int(target[8:-1])
                holders.setdefault(inode, pid)
                if int(number) in _STREAMS:
                    streams.add(inode)
    connected: dict[int, list[Held]] = {}
    if not holders:
        return connected
    for inode, held in sockets.held_by(pids, set(holders)).items():
        scope.watch_socket(slot, held.cookie)
        if held.port and inode not in streams:
            connected.setdefault(holders[inode], []).append(held)
    return connected


def _descriptors(pid: int) -> Iterator[tuple[str, str]]:
    base = f"/proc/{acting(pid)}/fd"
    try:
        numbers = os.listdir(base)
    except OSError:
        return
    for number in numbers:
        try:
            yield number, os.readlink(f"{base}/{number}")
        except OSError:
            continue  # closed while we looked


def _as_of_now(pid: int, slot: int, ktime_ns: int, view: events.View) -> dict[str, Any]:
    """What every event of something that was there before says of itself."""
    uid, *_ = uids_of(pid) or (0,)
    whose = {"slot": slot, "tgid": pid, "tid": pid, "uid": uid, "view": view}
    return {"ktime_ns": ktime_ns, "egress_bytes": 0, "cut": False, **whose}


def connections(
    pid: int, held: Iterable[Held], slot: int, ktime_ns: int, view: events.View
) -> Iterator[events.Connected]:
    """Sockets that the process holds connected already, as if it connected them now."""
    header = _as_of_now(pid, slot, ktime_ns, view)
    for sock in held:
        yield events.Connected(
            **header,
            address=sock.address,
            port=sock.port,
            protocol=sock.protocol,
            cookie=sock.cookie,
            datagram=False,
        )


def open_files(pid: int, slot: int, ktime_ns: int, view: events.View) -> Iterator[events.Opened]:
    """Files the process holds open already, as if it opened them now."""
    header = _as_of_now(pid, slot, ktime_ns, view)
    base = f"/proc/{acting(pid)}"
    for number, target in _descriptors(pid):
        if not target.startswith("/"):
            continue
        try:
            info = os.stat(f"{base}/fd/{number}")
            text = Path(f"{base}/fdinfo/{number}").read_text(errors="replace")
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
        if not info.st_nlink:
            target = target.removesuffix(" (deleted)")  # noqa: PLW2901 - procfs adds it
        path = events.Path(target, target, info.st_dev)
        yield events.Opened(
            **header,
            file=events.File(path, info.st_ino, 0, info.st_mode, info.st_nlink),
            access=access,
            repeats=0,
        )
