# SPDX-License-Identifier: Apache-2.0
"""Paths that rules name, as inodes: a hard link or a new mount of one is still the same file.

The table is kept per mount namespace. It is read again when a session changed a name in it, and by
the housekeeper; between the two, a file that somebody outside replaced is known by its path only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

_Inode = tuple[int, int]


class WatchedPaths:
    """(device, inode) -> the watched paths that lead to it."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._tables: dict[str, dict[_Inode, list[str]]] = {}
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
        table = self._tables.get(root)
        if table is None:
            table = self._tables[root] = self._read(root)
        return table.get((device, inode), ())

    def refresh(self) -> None:
        """Read every table again, and drop those whose namespace is gone."""
        for root in list(self._tables):
            if os.path.isdir(root):
                self._tables[root] = self._read(root)
            else:
                self._tables.pop(root, None)

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
