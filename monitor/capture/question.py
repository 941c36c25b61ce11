# SPDX-License-Identifier: Apache-2.0
"""What a thread that waits at the gate is about to do, in the pipeline's words."""

from __future__ import annotations

import os
from dataclasses import dataclass

from monitor.capture.gatewords import Asked
from monitor.events import Access

NOBODY_WAITS = 0
"""Number of a question that was answered already; those that wait count from 1."""


@dataclass(kw_only=True)
class Question:
    """A thread of a session waits for our word.

    `path` is from the root of its mount namespace or, where the gatekeeper reaches it, from ours;
    `mount` is its id in /proc/PID/mountinfo. With `execute` it is asked before a program runs; the
    kernel then asks a second time, for the open in it.
    """

    number: int
    ktime_ns: int
    slot: int
    pid: int
    tid: int
    access: Access
    execute: bool
    device: int
    inode: int
    mode: int
    links: int
    path: str
    mount: int


def question_of(asked: Asked, access: Access, *, number: int) -> Question:
    """From the gatekeeper's words, and what the thread is found to want of the file."""
    return Question(
        number=number,
        ktime_ns=asked.ktime_ns,
        slot=asked.slot,
        pid=asked.pid,
        tid=asked.tid,
        access=access,
        execute=asked.execute,
        device=asked.device,
        inode=asked.inode,
        mode=asked.mode,
        links=asked.links,
        path=os.fsdecode(asked.path),
        mount=asked.mount,
    )
