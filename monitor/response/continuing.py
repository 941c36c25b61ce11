# SPDX-License-Identifier: Apache-2.0
"""Lets go on whom the kernel stopped, in an order that leaves nobody behind; it decides about nobody.

The kernel's half of that order is `stop_process` of bpf/verdict.h.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

from monitor.response.holds import Holds


def continue_held(holds: Holds, slot: int, pids: Iterable[int]) -> None:
    """Those of these processes that are held in this slot, unless something of it waits for a verdict."""
    for pid in pids:
        _continue_one(holds, slot, pid)


def _continue_one(holds: Holds, slot: int, pid: int) -> None:
    hold = holds.of(pid)
    # It ended, and its number may be another's. Or a packet of the session was looked at while a process of
    # another one ran, which that one's answers let go.
    if hold is None or hold.slot != slot:
        return
    holds.forget(pid)
    # A thread of it that is held after this look finds that its row is gone, and writes it anew.
    if holds.waiting(slot):
        holds.remember(hold)
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
        # One that was held between the look and the signal goes on waiting.
        if holds.waiting(slot) and holds.of(pid) is not None:
            os.kill(pid, signal.SIGSTOP)


def go_on(pids: Iterable[int]) -> None:
    """Processes that the kernel stopped until a monitor comes, and that nobody follows any more."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
