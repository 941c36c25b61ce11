# SPDX-License-Identifier: Apache-2.0
"""Ways to read a secret."""

from __future__ import annotations

from effects import created, secret_taken
from technique import Technique
from techniques.reasons import HELD_OPEN, MAY_BE_HONEST, RING

SECRETS = (
    Technique(
        "F5-move",
        "secrets",
        "move a credential below a bind mount of its directory, and read it there",
        secret_taken,
    ),
    Technique("F20-builtin", "secrets", "read a credential by a shell's builtin", secret_taken),
    Technique(
        "F20-descriptor",
        "secrets",
        "read a credential that was open before the session",
        secret_taken,
        inherits="credential",
        gap=HELD_OPEN,
    ),
    Technique(
        "F21-environ",
        "secrets",
        "read another process's environment",
        secret_taken,
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "F21-proc",
        "secrets",
        "the same in a procfs mounted anew",
        secret_taken,
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "F21-mem",
        "secrets",
        "read another process's memory by /proc/PID/mem",
        secret_taken,
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "F21-readv",
        "secrets",
        "read another process's memory by process_vm_readv(2)",
        secret_taken,
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique("E1-read", "rings", "read a credential through io_uring", secret_taken, gap=RING),
    Technique("P1-deep", "secrets", "read a credential below a path of 6 kB", secret_taken),
    Technique(
        "P2-ugly",
        "secrets",
        "read a credential below a name with newline, ESC and no UTF-8",
        secret_taken,
    ),
    Technique(
        "P3-long",
        "secrets",
        "run a keeper of secrets with the telling argument behind 120 kB of others",
        created("work/ran"),
        gap="Arguments are kept up to 4095 bytes; the rest is not judged, and the event says so.",
    ),
    Technique(
        "P3-empty",
        "secrets",
        "run a keeper of secrets with no arguments at all",
        created("work/ran"),
        gap="The rule looks for what the keeper is asked; asked in another way it is not seen.",
    ),
)
