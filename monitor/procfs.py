# SPDX-License-Identifier: Apache-2.0
"""Files of procfs that many read: what /proc/PID/stat says of a process, and tables of names."""

from __future__ import annotations

import errno
import os
from pathlib import Path


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


def stat_of(pid: int, proc: Path = Path("/proc")) -> list[str]:
    """Its fields from the third on (proc_pid_stat(5)): state, ppid, pgrp and so on; none if it is gone."""
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    # The name before them may hold spaces and parentheses.
    return text.rpartition(")")[2].split()


def has_ended(pid: int) -> bool:
    """Gone, or a zombie that waits for its parent."""
    fields = stat_of(pid)
    return not fields or fields[0] in {"Z", "X"}


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
