# SPDX-License-Identifier: Apache-2.0
"""A call that is held: what is looked for, who stands still, and how he goes on."""

from __future__ import annotations

import os
import signal
import time

from laboratory import until
from states import state_of

from monitor.events import Opened, Verdict
from monitor.lowered import Act, Lowered, Watch, Where
from monitor.response.holds import Answer


def watching(verdicts, where, path, hold, certain=0, exempt=()):
    end = "/" if where is Where.BELOW else ""
    watch = Watch(where, f"{path}{end}", Act(hold), Act(certain), frozenset(exempt))
    verdicts.replace(Lowered(watches=(watch,)))


def held_by(inside, puppet, *call, kind=Opened):
    """Make a call that should be held; the event, once the process stands still."""
    puppet.become(*call)
    event = inside.wait(kind, lambda e: e.verdict & Verdict.STOPPED)
    assert until(lambda: state_of(puppet.pid) == "T")
    return event


def judged(holds, inside):
    """One candidate of the session has its answer."""
    holds.answer(inside.slot, time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def go_on(holds, inside, puppet):
    """What an answer is to the kernel and to the process; its result."""
    holds.decide_all(inside.slot, Answer.LET)  # where it was asked before: tests/kernel/before
    judged(holds, inside)
    holds.forget(puppet.pid)
    os.kill(puppet.pid, signal.SIGCONT)
    return puppet.answer()
