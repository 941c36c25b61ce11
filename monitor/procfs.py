# SPDX-License-Identifier: Apache-2.0
"""What the kernel's own file systems say of processes, of one that is gone nothing; and tables of names."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

_ENDED = frozenset("ZX")
_THREADS = 17
"""Where `stat_of` has num_threads: those that live, and the main one until all are gone."""


def lines_of(file: Path, most_bytes: int = -1) -> list[str]:
    """Its lines that are not empty, which end at a newline and nowhere else; OSError, also if it is longer.

    Names of mount points and cgroups are an agent's to choose: they hold any byte but that one (the kernel
    writes it in another way), invalid UTF-8 and what Python takes for the end of a line.
    """
    with file.open("rb") as source:
        content = source.read(most_bytes)
        if most_bytes >= 0 and source.read(1):
            raise OSError(errno.EFBIG, "longer than anybody needs", str(file))
    return [line for line in os.fsdecode(content).split("\n") if line]


def mounted_devices(pid: int | str = "self") -> set[int]:
    """Devices of all that a process has mounted, as `st_dev`; OSError."""
    rows = lines_of(Path(f"/proc/{pid}/mountinfo"))
    numbers = (row.split(" ", 3)[2].split(":") for row in rows)
    return {os.makedev(int(major), int(minor)) for major, minor in numbers}


def stat_of(pid: int, proc: Path = Path("/proc")) -> list[str]:
    """Its fields from the third on (proc_pid_stat(5)): state, ppid, pgrp and so on; none if it is gone."""
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    # The name before them may hold spaces and parentheses.
    return text.rpartition(")")[2].split()


def is_zombie(pid: int) -> bool:
    """Has its main thread ended, and nobody has waited for it yet, or other threads of it live on?"""
    return stat_of(pid)[:1] == ["Z"]


def has_ended(pid: int) -> bool:
    """Gone, or a zombie that waits for its parent, with no other thread.

    A main thread may end alone (pthread_exit): the process is shown as a zombie then, and acts on.
    """
    fields = stat_of(pid)
    return not fields or (fields[0] in _ENDED and not _has_others(fields))


def status_of(pid: int) -> dict[str, str]:
    """/proc/PID/status (proc_pid_status(5)) of a process or a thread, none if it is gone.

    Not by looking for a word: the first line is a name that its process chose, which may hold a tab and a
    carriage return and so the whole of another line (psutil 7 finds the uids of `Uid:` in it).
    """
    try:
        lines = lines_of(Path(f"/proc/{pid}/status"))
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def uids_of(pid: int) -> tuple[int, ...]:
    """Real, effective, saved and file system's; none if it is gone."""
    return tuple(int(word) for word in status_of(pid).get("Uid", "").split())


def acting(pid: int, proc: Path = Path("/proc")) -> int:
    """The number under which /proc has the files, memory and namespaces of a process: its pid, mostly.

    Where its main thread ended alone, that has none of them any more, and another thread's is given.
    """
    fields = stat_of(pid, proc)
    if fields and fields[0] in _ENDED and _has_others(fields):
        tasks = proc / str(pid) / "task"
        with suppress(OSError):  # it ended
            for tid in _threads_of(pid, proc):
                if (of_thread := stat_of(tid, tasks)) and of_thread[0] not in _ENDED:
                    return tid
    return pid


def processes_in(cgroup: Path) -> list[int]:
    """Those of which a thread lives in the cgroup or below it; not of other pid namespaces than ours.

    `cgroup.procs` says where the main threads are. One that has ended stays where it was when the others
    of its process are moved.
    """
    listed: dict[int, None] = {}
    living: set[int] = set()
    for directory, _, _ in os.walk(cgroup):
        listed |= dict.fromkeys(_numbers(f"{directory}/cgroup.procs"))
        living.update(_numbers(f"{directory}/cgroup.threads"))
    living.discard(0)
    found = {pid: None for pid in listed if pid in living}
    unknown = living - found.keys()
    for pid in listed:
        with suppress(OSError):  # it ended
            if unknown and not unknown.isdisjoint(own := _threads_of(pid)):
                unknown.difference_update(own)
                found[pid] = None
    for tid in unknown:
        found[int(status_of(tid).get("Tgid", tid))] = None
    return list(found)


def _numbers(file: str) -> list[int]:
    try:
        return [int(number) for number in Path(file).read_text().split()]
    except OSError:  # removed; or threaded: its processes are listed at the domain above
        return []


def _threads_of(pid: int, proc: Path = Path("/proc")) -> list[int]:
    return [int(thread.name) for thread in (proc / str(pid) / "task").iterdir()]


def _has_others(fields: list[str]) -> bool:
    return int(fields[_THREADS]) > 1
