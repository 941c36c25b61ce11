# SPDX-License-Identifier: Apache-2.0
"""Ways to go on after the stop."""

from __future__ import annotations

from effects import HOSTS, all_arrived, arrived, created, secret_taken
from props import SECRET
from technique import Technique

STOPS = (
    Technique(
        "K1-freeze",
        "rings",
        "a chain armed in a ring before the stop: bytes after it",
        arrived(),
        world=True,
        late=True,
    ),
    Technique(
        "K2-sqpoll",
        "rings",
        "the same in a ring that a kernel thread polls",
        arrived(),
        world=True,
        late=True,
    ),
    Technique(
        "K3-kill",
        "rings",
        "the same, set off by the kill",
        arrived(),
        world=True,
        late=True,
        then_kill=True,
    ),
    Technique(
        "K4-queued",
        "rings",
        "8 MiB that a socket holds at the stop",
        all_arrived,
        world=True,
        late=True,
    ),
    Technique(
        "K5-continue",
        "secrets",
        "read a credential while a sibling continues whoever is held",
        secret_taken,
        undoes_hold=True,
    ),
    Technique(
        "K5-keep",
        "secrets",
        "the same, and write it to a new file",
        created("work/taken", SECRET),
        late=True,
    ),
    Technique(
        "K6-stuck",
        "served",
        "edit hosts while a thread sleeps over a file that one serves oneself (FUSE), and cannot be frozen",
        HOSTS,
        late=True,
    ),
)
