# SPDX-License-Identifier: Apache-2.0
"""A call that waits for its answer before it happens: its question, and the two answers."""

from __future__ import annotations

import os
import signal

import pytest
from held import judged
from laboratory import until
from states import state_of

from monitor.events import Opened, Verdict
from monitor.response.holds import Answer

ASKED = Verdict.CANDIDATE | Verdict.STOPPED | Verdict.BEFORE
HELD_AFTER = Verdict.CANDIDATE | Verdict.STOPPED
KEPT = b"key = secret\n"


def asked(inside, puppet, *call, kind=Opened):
    """Make a call that waits; its question, once the process stands still."""
    inside.forget_events()
    puppet.become(*call)
    event = inside.wait(kind, lambda e: e.verdict)
    assert until(lambda: state_of(puppet.pid) == "T")
    assert event.verdict == ASKED
    return event


def answer(holds, inside, event, word):
    """Let it happen or forbid it, and continue the process."""
    holds.decide(event.tid, event.held_ns, word)
    judged(holds, inside)
    holds.forget(event.tgid)
    os.kill(event.tgid, signal.SIGCONT)


def let(holds, inside, puppet, event):
    answer(holds, inside, event, Answer.LET)
    return puppet.answer()


def forbidden(holds, inside, puppet, event):
    answer(holds, inside, event, Answer.FORBID)
    with pytest.raises(PermissionError):
        puppet.answer()


def files_of(pid):
    return {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


def happened(inside, kind):
    """The event of what was let through; there is exactly one, and nobody was held for it."""
    (event,) = (e for e in inside.events(kind) if Verdict.BEFORE not in e.verdict)
    assert event.verdict == Verdict.PASS
    return event
