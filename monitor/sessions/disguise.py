# SPDX-License-Identifier: Apache-2.0
"""Programs that only look like the host's: by a mount, a root directory of the agent's own, a library.

The kernel has the path as the process sees it. What a rule means by `/usr/bin/ssh` is the file that
was there when the session began, with the libraries of the system.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from monitor import events
from monitor.procfs import acting
from monitor.sessions.places import (
    HostMounts,
    Mount,
    base_of,
    below,
    kind_of,
    mounts_of,
    view_of,
)

_LOADING = (b"LD_PRELOAD=", b"LD_AUDIT=", b"LD_LIBRARY_PATH=")
_OF_THE_SYSTEM = re.compile(rb"/(?:usr|lib\w*|opt|snap|nix/store|gnu/store)(?:/|$)")
_MOST_ENVIRONMENT_BYTES = 256 << 10
_MOST_BYTES = 128 << 10
"""Of a mount table that is read for one event: some 1,500 lines, which take 3 ms."""


class MountTable:
    """What a path leads to: a filesystem, and the path within it, as the kernel side tells them.

    By names and not by inode: `os.stat` has another device for a file of btrfs or of an overlay than
    the kernel side has, and a program may be upgraded while it runs.
    """

    def __init__(self, table: Path, base: str = "/", *, most_bytes: int = -1) -> None:
        """`base`: the root directory in this table of who looks. OSError, also if it is longer."""
        self._base = base.rstrip("/")
        self._on: dict[int, list[Mount]] = {}
        self._mounts = mounts = list(mounts_of(table, most_bytes))
        known = {mount.number for mount in mounts}
        for mount in mounts:
            if mount.above != mount.number:
                self._on.setdefault(mount.above, []).append(mount)
        roots = (m for m in mounts if not m.point and m.above not in known - {m.number})
        self._root = next(roots, None)
        self.devices = frozenset(mount.device for mount in mounts)

    @classmethod
    def of(cls, pid: int, *, most_bytes: int = -1) -> MountTable | None:
        """As this process sees it; None where it is gone, or its root directory is in no table of ours.

        Who asks for an event says how long a table he waits for: an agent can make it 100,000 lines long.
        """
        with suppress(OSError):
            thread = acting(pid)
            table = cls(Path(f"/proc/{thread}/mountinfo"), most_bytes=most_bytes)
            if table._root is not None:
                return table
            # A chroot to a directory that is no mount.
            if view_of(thread).mnt_ns == view_of().mnt_ns:
                base = base_of(f"/proc/{thread}/root")
                return cls(Path("/proc/self/mountinfo"), base, most_bytes=most_bytes)
        return None

    @classmethod
    def of_event(cls, event: events.Event) -> MountTable | None:
        """As the thread that acted sees it, unless that takes too long to read."""
        numbers = dict.fromkeys((event.tid, event.tgid))
        tables = (cls.of(number, most_bytes=_MOST_BYTES) for number in numbers)
        return next((table for table in tables if table is not None), None)

    def file(self, path: str) -> tuple[int, str]:
        """Device and path within it; (0, "") where nothing is known to be mounted."""
        path, mount, below = self._base + path, self._root, self._root
        while below is not None:  # as a walk along the path meets them: what is covered is not met
            mount = below
            met = [
                m for m in self._on.get(mount.number, ()) if f"{path}/".startswith(m.point + "/")
            ]
            below = min(met, key=lambda m: len(m.point), default=None)
        return (mount.device, mount.root + path[len(mount.point) :]) if mount else (0, "")

    def spellings(self, device: int, within: str) -> Sequence[str]:
        """Every path that leads to `within` on that file system, also where another mount covers it."""
        return [
            below(mount.point + within[len(mount.root) :], self._base or "/")
            for mount in self._mounts
            if mount.device == device and f"{within}/".startswith(mount.root + "/")
        ]


def lies_at(path: events.Path, first: MountTable | None, host: HostMounts) -> str:
    """Where a program is that the session did not have at this path when it began; else empty.

    No rule has the name that it gets if the host shows it nowhere.
    """
    if first is None or _has(first, path):
        return ""
    shown = host.spellings(path.device, path.within)
    return next((spelling for spelling in shown if spelling != path.text), nowhere(path))


def names_of_the_kernels(path: events.Path, pids: Iterable[int]) -> Iterable[str]:
    """More names of a file whose file system the host does not have mounted, as far as they tell more.

    What the kernel shows in a mount that a session made anew is what rules know by its usual place.
    """
    if not path.text.endswith(path.within):
        yield nowhere(path)  # a file that was bound to another name
    usual = {kind: place + path.within for kind, place in _USUAL.items()}
    if _OF_THE_KERNEL.match(path.within) and path.text not in usual.values():
        kinds = {kind_of(pid, path.device, _MOST_BYTES) for pid in pids}
        yield from (name for kind, name in usual.items() if kind in kinds)


_USUAL = {"proc": "/proc", "sysfs": "/sys", "binfmt_misc": "/proc/sys/fs/binfmt_misc"}
_OF_THE_KERNEL = re.compile(r"/(\d+|self|thread-self|sys|sysrq-trigger|kcore|kernel|register)(/|$)")
"""Names there that rules are about: who mounts other file systems need not be looked at for each open."""


def nowhere(path: events.Path) -> str:
    """A name for what the host shows nowhere: the device, and the path within it."""
    return f"{os.major(path.device)}:{os.minor(path.device)}:{path.within}"


def lies_at_now(pid: int, image: str, first: MountTable | None, host: HostMounts) -> str:
    """The same of a program that runs already, as far as its mounts tell it now."""
    seen = MountTable.of(pid)
    if seen is None:
        return ""
    device, within = seen.file(image)
    return lies_at(events.Path(image, within, device), first, host)


def own_name(event: events.Event, named: str, first: MountTable | None, host: HostMounts) -> str:
    """Path of the file acted on, if only who has such a root directory or such mounts has it; else empty.

    A container's own passwd may read the container's own /etc/shadow. `named`: where the event's name
    leads, if it has one.
    """
    path = event.file.path if isinstance(event, events.Opened) else None
    if first is None or not (path or named) or (path and _has(first, path)):
        return ""
    seen = MountTable.of_event(event)
    if seen is None:
        return ""
    if path is None:
        device, within = seen.file(named)
        path = events.Path(named, within, device)
        # An open is told by the host's names too. This is not: the host must not have it anywhere.
        if device in first.devices:
            return ""
    # A device that no mount has is one of `os.stat`, of which nothing can be said.
    known = path.device not in seen.devices or path.text in host.spellings(path.device, path.within)
    return "" if known else path.text


def _has(table: MountTable, path: events.Path) -> bool:
    return table.file(path.text) == (path.device, path.within)


def is_preloaded(pid: int) -> bool:
    """Does its environment make the dynamic linker load a library of another place than the system's?

    It is what the process has there now: it may have written over it since its exec, or be gone.
    """
    try:
        with Path(f"/proc/{pid}/environ").open("rb", buffering=0) as file:
            environ = file.read(_MOST_ENVIRONMENT_BYTES)
            if file.read(1):
                return True  # more than anybody needs, and something may be behind it
    except OSError:
        return False
    return any(
        _is_foreign(item, variable)
        for pair in environ.split(b"\0")
        for variable in _LOADING
        if pair.startswith(variable) and pair != variable
        for item in re.split(rb"[:; ]", pair.removeprefix(variable))
    )


def _is_foreign(item: bytes, variable: bytes) -> bool:
    if variable != b"LD_LIBRARY_PATH=" and b"/" not in item:
        return False  # a mere name is looked for in the library path
    return not _OF_THE_SYSTEM.match(os.path.normpath(item))
