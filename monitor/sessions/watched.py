# SPDX-License-Identifier: Apache-2.0
"""Paths that rules name, as inodes: a hard link or a new mount of one is still the same file.

The table is kept per mount namespace and read again when a session changed a name in it and every
`refresh_s` seconds; between the two, a file that somebody outside replaced is known by its path only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

_Inode = tuple[int, int]


class WatchedPaths:
    """(device, inode) -> the watched paths that lead to it."""

    def __init__(
        self,
        paths: Sequence[str],
        *,
        refresh_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._refresh_s = refresh_s
        self._clock = clock
        self._tables: dict[str, tuple[float, dict[_Inode, list[str]]]] = {}
        self.replace(paths)

    def replace(self, paths: Sequence[str]) -> None:
        """Watch other paths: the rules changed."""
        self._paths = tuple(paths)
        self.leaves = {path.rpartition("/")[2] for path in paths}
        self._tables.clear()

    def stale(self) -> None:
        """A name changed: look again before the next answer."""
        self._tables.clear()

    def aliases(self, root: str, device: int, inode: int) -> Sequence[str]:
        """Watched paths below `root` that are this inode."""
        when, table = self._tables.get(root, (float("-inf"), {}))
        now = self._clock()
        if now - when > self._refresh_s:
            table = self._read(root)
            self._tables[root] = (now, table)
        return table.get((device, inode), ())

    def _read(self, root: str) -> dict[_Inode, list[str]]:
        table: dict[_Inode, list[str]] = {}
        prefix = root.rstrip("/")
        for path in self._paths:
            try:
                found = os.stat(prefix + path)
            except OSError:
                continue
            table.setdefault((found.st_dev, found.st_ino), []).append(path)
        return table
