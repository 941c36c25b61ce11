# SPDX-License-Identifier: Apache-2.0
"""Paths that rules name, as inodes: a hard link or a new mount of one is still the same file.

The table is kept per mount namespace. It is read again when a session changed a name in it, and by
the housekeeper; between the two, a file that somebody outside replaced is known by its path only.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

_Inode = tuple[int, int]
Table = Mapping[str, set[_Inode]]


class WatchedPaths:
    """(device, inode) -> the watched paths that lead to it, for each root they were asked under."""

    def __init__(
        self,
        paths: Sequence[str],
        on_change: Callable[[Table], None] = lambda _: None,
        on_name: Callable[[Sequence[tuple[str, str]]], None] = lambda _: None,
    ) -> None:
        """`on_change` is told, after every change, where each path leads under each known root.

        `on_name` is told of names that came or went, even if the same inode number is there: each
        as the path, and as we reach it.
        """
        self._on_change = on_change
        self._on_name = on_name
        self._tables: dict[str, dict[str, _Inode]] = {}
        self._inverted: dict[str, dict[_Inode, list[str]]] = {}
        self.replace(paths)

    def replace(self, paths: Sequence[str]) -> None:
        """Watch other paths: the rules changed."""
        self._sorted = sorted(paths)
        self._by_leaf: dict[str, list[str]] = {}
        for path in paths:
            self._by_leaf.setdefault(path.rpartition("/")[2], []).append(path)
        for root in list(self._tables):
            self._read(root)

    def changed(self, leaf: str) -> None:
        """A name that ends in `leaf` came or went: look at those paths again, and only at those."""
        paths = self._by_leaf.get(leaf)
        if paths:
            for root, table in list(self._tables.items()):
                self._set(root, table | _look(root, paths))
                self._on_name([(path, root.rstrip("/") + path) for path in paths])

    def below(self, directory: str) -> Sequence[str]:
        """Watched paths that lie in this directory, however deep."""
        first = bisect_left(self._sorted, directory + "/")
        last = bisect_left(self._sorted, directory + "0")  # the character after the slash
        return self._sorted[first:last]

    def aliases(self, root: str, device: int, inode: int) -> Sequence[str]:
        """Watched paths below `root` that are this inode."""
        table = self._inverted.get(root)
        if table is None:
            table = self._read(root)
        return table.get((device, inode), ())

    def refresh(self) -> None:
        """Read every table again, and drop those whose root is gone."""
        for root in list(self._tables):
            if os.path.isdir(root):
                self._read(root)
            else:
                self._tables.pop(root, None)
                self._inverted.pop(root, None)

    def tables(self) -> Mapping[str, Mapping[str, _Inode]]:
        """Root -> path -> inode, (0, 0) where there is none; no table is changed once it is here."""
        return dict(self._tables)

    def _read(self, root: str) -> dict[_Inode, list[str]]:
        return self._set(root, _look(root, [p for paths in self._by_leaf.values() for p in paths]))

    def _set(self, root: str, table: dict[str, _Inode]) -> dict[_Inode, list[str]]:
        inverted: dict[_Inode, list[str]] = {}
        for path, inode in table.items():
            inverted.setdefault(inode, []).append(path)
        inverted.pop(_NOTHING, None)
        self._inverted[root] = inverted
        changed = self._tables.get(root) != table
        self._tables[root] = table
        if changed:
            self._on_change(self._everywhere())
        return inverted

    def _everywhere(self) -> Table:
        found: dict[str, set[_Inode]] = {}
        for table in list(self._tables.values()):
            for path, inode in table.items():
                found.setdefault(path, set()).add(inode)
        return {path: inodes - {_NOTHING} for path, inodes in found.items()}


_NOTHING = (0, 0)


def _look(root: str, paths: Sequence[str]) -> dict[str, _Inode]:
    table = {}
    prefix = root.rstrip("/")
    for path in paths:
        try:
            found = os.stat(prefix + path)
        except OSError:
            table[path] = _NOTHING
        else:
            table[path] = (found.st_dev, found.st_ino)
    return table
