# SPDX-License-Identifier: Apache-2.0
"""What /proc/PID/stat says of a process; for one that is gone it says nothing."""

from __future__ import annotations

from pathlib import Path


def stat_of(pid: int, proc: Path = Path("/proc")) -> list[str]:
    """Its fields from the third on (proc_pid_stat(5)): state, ppid, pgrp, session, tty_nr and so on."""
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
