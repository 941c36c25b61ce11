# SPDX-License-Identifier: Apache-2.0
"""A call that is refused, and what is told of it."""

from __future__ import annotations

import os

import pytest

from monitor.events import Verdict

REFUSED = Verdict.CANDIDATE | Verdict.CERTAIN | Verdict.REFUSED
KEPT = b"127.0.0.1 localhost\n"


def calling(puppet, name, *arguments):
    words = [a if isinstance(a, int) else puppet.place(os.fsencode(a)) for a in arguments]
    return puppet(name, *words)


def refused(puppet, name, *arguments):
    with pytest.raises(PermissionError):
        calling(puppet, name, *arguments)


def told(inside, kind):
    """The event of what was refused; there is exactly one of its kind."""
    (event,) = (e for e in inside.events(kind) if e.verdict)
    assert event.verdict == REFUSED
    assert event.held_ns >= event.ktime_ns
    return event
