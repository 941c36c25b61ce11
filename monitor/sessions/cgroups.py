# SPDX-License-Identifier: Apache-2.0
"""cgroup2 directories of sessions: found, made, limited, filled and removed.

Freezing and killing is not here.

Paths are absolute. A cgroup's id is the inode number of its directory; its level counts from the
root of the hierarchy, which is level 0 and never a session's.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from monitor.errors import AttachError, RequirementError
from monitor.procfs import acting, lines_of, processes_in

CGROUP2_MAGIC = 0x63677270
DEEPEST_LEVEL = 12
"""MAX_LEVEL of bpf/maps.h: a session's cgroup further down would not be found by the kernel side."""
_LIMITS = ("pids.max", "memory.max", "cpu.max")
_STATFS_BYTES = 256
_libc = ctypes.CDLL(None, use_errno=True)


def statfs_magic(path: Path) -> int:
    """`f_type` of statfs(2): what kind of file system a path is on, 0 if it cannot be asked."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.statfs(os.fsencode(path), buffer):
        return 0
    return int.from_bytes(buffer.raw[:8], "little")


def find_root(mountinfo: Path = Path("/proc/self/mountinfo")) -> Path:
    """Where cgroup2 is mounted.

    Not guessed: on hybrid hosts /sys/fs/cgroup is a tmpfs, where a write to a made-up `cgroup.kill`
    succeeds and does nothing.
    """
    for line in lines_of(mountinfo):
        fields, _, kind = line.partition(" - ")
        if kind.split(" ")[0] == "cgroup2":
            root = Path(fields.split(" ")[4])
            if statfs_magic(root) == CGROUP2_MAGIC:
                return root
    raise RequirementError(
        "no cgroup2 file system is mounted",
        mend="mount -t cgroup2 none /sys/fs/cgroup/unified (or boot with cgroup2)",
    )


def cgroup_of(pid: int, root: Path) -> Path:
    """The cgroup2 directory of a process; AttachError if it is gone."""
    try:
        # A main thread that ended alone stays where it was when the others are moved.
        lines = lines_of(Path(f"/proc/{acting(pid)}/cgroup"))
    except OSError as error:
        raise AttachError(
            f"process {pid} does not exist", mend="look with `ps` for the agent's pid"
        ) from error
    for line in lines:
        if line.startswith("0::"):
            return root / line[3:].lstrip("/")
    raise AttachError(f"process {pid} is in no cgroup2 cgroup")


def level_of(cgroup: Path, root: Path) -> int:
    """How many directories below the root."""
    return len(cgroup.relative_to(root).parts)


def members(cgroup: Path) -> list[int]:
    """Every process in the cgroup or below it, but for those of another pid namespace."""
    return processes_in(cgroup)


def make(parent: Path, name: str) -> Path:
    """A new cgroup for a session."""
    parent.mkdir(exist_ok=True)
    cgroup = parent / name
    cgroup.mkdir()
    return cgroup


def limits_of(cgroup: Path, root: Path) -> dict[str, str]:
    """What binds a process in a cgroup: of each limit the smallest there and above, as its file has it.

    What is unlimited, or has no controller there, is left out. The root itself has no limits.
    """
    levels = [at for at in (cgroup, *cgroup.parents) if at != root and at.is_relative_to(root)]
    found = {}
    for name in _LIMITS:
        rows = [text.split() for at in levels if (text := _text(at / name))]
        if bound := [row for row in rows if row[0] != "max"]:
            # One number, or for cpu.max a quota and the period that it is of.
            found[name] = " ".join(min(bound, key=lambda row: Fraction(*map(int, row))))
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def limit(cgroup: Path, limits: Mapping[str, str]) -> list[str]:
    """Put limits on a session's cgroup; the names of those that its place in the hierarchy cannot have."""
    missing = []
    for name, value in limits.items():
        try:
            (cgroup.parent / "cgroup.subtree_control").write_text(f"+{name.partition('.')[0]}")
            (cgroup / name).write_text(value)
        except OSError:  # above us it is not enabled, and that is not ours to change
            missing.append(name)
    return missing


def move(pid: int, cgroup: Path) -> bool:
    """Move a process; False if it ended first."""
    try:
        (cgroup / "cgroup.procs").write_text(str(pid))
    except ProcessLookupError:
        return False
    return True


def remove(cgroup: Path) -> bool:
    """Remove an empty cgroup and the empty ones below it; False if something still lives there."""
    try:
        for directory, _, _ in os.walk(cgroup, topdown=False):
            os.rmdir(directory)
    except OSError:
        return not cgroup.exists()
    return True
