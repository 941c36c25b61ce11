# SPDX-License-Identifier: Apache-2.0
"""Which process a number means that a system call was given in another pid namespace."""

from __future__ import annotations

import os
from collections.abc import Iterable

from monitor.procfs import status_of


def host_pid(number: int, caller: int, family: Iterable[int]) -> int:
    """The process that `caller` calls `number`, as we call it; 0 if it is none of the family.

    Where the caller shares our namespace, or is gone already, that is the number itself.
    """
    try:
        if _namespace(caller) == _namespace(os.getpid()):
            return number
        level = len(_numbers(caller)) - 1
    except OSError:
        return number
    return next((pid for pid in family if _is_called(pid, number, level, caller)), 0)


def _is_called(pid: int, number: int, level: int, caller: int) -> bool:
    try:
        numbers = _numbers(pid)
        if numbers[level : level + 1] != [number]:
            return False
        # On the same level the number may be another namespace's; who is deeper is seen from here.
        return len(numbers) > level + 1 or _namespace(pid) == _namespace(caller)
    except OSError:  # it ended
        return False


def _namespace(pid: int) -> int:
    return os.stat(f"/proc/{pid}/ns/pid").st_ino


def _numbers(pid: int) -> list[int]:
    """Its pid in our namespace and in each below, see `NSpid` in proc_pid_status(5)."""
    return [int(word) for word in status_of(pid).get("NSpid", str(pid)).split()]
