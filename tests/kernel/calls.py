# SPDX-License-Identifier: Apache-2.0
"""The call that most tests make of a puppet, every act that a rule can name, and every link."""

from __future__ import annotations

import os
from pathlib import Path

from laboratory import Puppet

from monitor.lowered import Act

CWD = -100
EVERY_ACT = Act((1 << 14) - 1)
LINKS = ("symbolic", "hard", "directory")


def opening(puppet: Puppet, path: Path | str, flags: int = os.O_RDONLY) -> tuple[str | int, ...]:
    """The call that opens the path: its name and its arguments."""
    return ("openat", CWD, puppet.place(os.fsencode(path)), flags, 0o600)


def linked(bait: Path, file: Path, link: str) -> Path:
    """A path at or below `bait` that leads to the file by one of `LINKS`."""
    if link == "symbolic":
        bait.symlink_to(file)
    elif link == "hard":
        bait.hardlink_to(file)
    else:
        bait.symlink_to(file.parent)
        return bait / file.name
    return bait


def within(path):
    """As its own filesystem has it, which is the same through every mount of it and in a chroot."""
    mount = path
    while not os.path.ismount(mount):
        mount = mount.parent
    return Path("/", path.relative_to(mount))
