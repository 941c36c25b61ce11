# SPDX-License-Identifier: Apache-2.0
"""The call that most tests make of a puppet, and every act that a rule can name."""

from __future__ import annotations

import os
from pathlib import Path

from laboratory import Puppet

from monitor.lowered import Act

CWD = -100
EVERY_ACT = Act((1 << 14) - 1)


def opening(puppet: Puppet, path: Path | str, flags: int = os.O_RDONLY) -> tuple[str | int, ...]:
    """The call that opens the path: its name and its arguments."""
    return ("openat", CWD, puppet.place(os.fsencode(path)), flags, 0o600)
