# SPDX-License-Identifier: Apache-2.0
"""Files that a command line names; it looks whether they are there and reads nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from monitor import events

_MAX_ARGUMENT_FILES = 16


def argument_files(event: events.Executed, root: str) -> list[tuple[int, int, str]]:
    """Arguments that are files: what an interpreter was told to run is among them."""
    found = []
    words = (event.script, *event.argv[1:])[:_MAX_ARGUMENT_FILES]
    for before, argument in zip(("", *words), words, strict=False):
        for word in _meant(argument, before):
            path = os.path.join(event.cwd.text, word)
            with suppress(OSError, ValueError):
                info = os.stat(join(root, path))
                if not stat.S_ISDIR(info.st_mode):
                    found.append((info.st_dev, info.st_ino, path))
    return found


def _meant(argument: str, before: str) -> Sequence[str]:
    """Files an argument can stand for: itself, what a directory starts with, Python's `-m`."""
    if before == "-m" or argument.startswith("-m"):
        module = argument.removeprefix("-m").replace(".", "/")
        return (f"{module}.py", f"{module}/__main__.py")
    if not argument or argument.startswith("-"):
        return ()
    return (argument, f"{argument}/__main__.py", f"{argument}/index.js")


def join(root: str, path: str) -> str:
    """A path by which we reach what a process calls `path` whose root we reach as `root`."""
    return path if root == "/" else root + path
