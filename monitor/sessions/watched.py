# SPDX-License-Identifier: Apache-2.0
"""Paths that rules name, as inodes: a hard link or a new mount of one is still the same file.

The table is kept per root directory. It is read again when a session changed a name in it, and by
the housekeeper; between the two, a file that somebody outside replaced is known by its path only.

To read a table takes milliseconds, and to tell the kernel of it takes ten times as long: whoever asks
for a root that is not known is answered at once, and `follow` reads it on a thread of its own. An agent
that makes a new root for each of its processes must not keep the next event waiting.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from monitor.looking import Look, UnansweredError, at_once

_Inode = tuple[int, int]
Table = Mapping[str, set[_Inode]]
OfSessions = Mapping[int, list[tuple[str, _Inode]]]


class WatchedPaths:
    """(device, inode) -> the watched paths that lead to it, for each root they were asked under."""

    def __init__(
        self,
        paths: Sequence[str],
        on_change: Callable[[Table, OfSessions], None] = lambda *_: None,
        on_name: Callable[[Sequence[tuple[str, str]]], None] = lambda _: None,
        look: Look = at_once,
    ) -> None:
        """`on_change` is told, after every change, where each path leads.

        That is below our own root and, by the slots of sessions, below theirs, the oldest root first.

        `on_name` is told of names that came or went, even if the same inode number is there: each
        as the path, and as we reach it. `look` looks where a session may be who answers.
        """
        self._look = look
        self._on_change = on_change
        self._on_name = on_name
        self._tables: dict[str, dict[str, _Inode]] = {}
        self._inverted: dict[str, dict[_Inode, list[str]]] = {}
        self._unread: set[str] = set()
        self._slots: dict[str, int] = {}
        """Root -> of the session that asked for it first."""
        self._news = threading.Event()
        """There is something for `follow` to do."""
        self._turns = 0
        """How often something changed under a reader's hands, who has to read again then."""
        self._unanswered: set[int] = set()
        self._untold = False
        self._telling = threading.Lock()
        self.replace(paths)

    def replace(self, paths: Sequence[str]) -> None:
        """Watch other paths: the rules changed."""
        by_leaf: dict[str, list[str]] = {}
        for path in paths:
            by_leaf.setdefault(path.rpartition("/")[2], []).append(path)
        self._sorted = sorted(paths)
        self._by_leaf = by_leaf  # whole: others are reading by the one before
        self._turns += 1
        self.refresh()

    def changed(self, leaf: str) -> None:
        """A name that ends in `leaf` came or went: look at those paths again, and only at those."""
        paths = self._by_leaf.get(leaf)
        if paths:
            self._turns += 1
            roots = list(self._tables)
            try:
                found = self._look(lambda: {root: _inodes(root, paths) for root in roots}, "names")
            except UnansweredError:  # whoever it is: `follow` asks for each root by itself
                self._unread.update(roots)
                found = {}
            for root, looked in found.items():
                table = self._tables.get(root)  # None: somebody forgot it meanwhile
                if table is not None and not looked.items() <= table.items():
                    self._set(root, table | looked)
            for root in roots:
                self._on_name([(path, root.rstrip("/") + path) for path in paths])
            self._news.set()

    def named(self, root: str, leaf: str, folder: _Inode) -> Iterator[str]:
        """Watched paths below `root` that are this name in this directory, whether or not a file is there."""
        for path in self._by_leaf.get(leaf, ()):
            with suppress(OSError):
                found = os.stat(root.rstrip("/") + (path.rpartition("/")[0] or "/"))
                if (found.st_dev, found.st_ino) == folder:
                    yield path

    def below(self, directory: str) -> Sequence[str]:
        """Watched paths that lie in this directory, however deep."""
        first = bisect_left(self._sorted, directory + "/")
        last = bisect_left(self._sorted, directory + "0")  # the character after the slash
        return self._sorted[first:last]

    def aliases(self, root: str, device: int, inode: int, *, slot: int = 0) -> Sequence[str]:
        """Watched paths below `root` that are this inode; none while its table is not read yet.

        `slot`: of the session on whose behalf it is asked.
        """
        table = self._inverted.get(root)
        if table is None:
            self._slots.setdefault(root, slot)
            self._unread.add(root)
            self._news.set()
            return ()
        return table.get((device, inode), ())

    def read(self, root: str, *, slot: int = 0) -> None:
        """Know this root's table when this returns, and have told of it."""
        self._slots.setdefault(root, slot)
        self._read(root)
        self._tell()

    def follow(self, timeout_s: float) -> None:
        """Read what was asked for and not known, and tell what changed; wait for that so long."""
        if not self._news.wait(timeout_s):
            return
        self._news.clear()
        # Others add to it and take from it meanwhile. One that is overlooked is asked for again.
        for root in list(self._unread):
            self._read(root)
            self._unread.discard(root)
        self._tell()

    def refresh(self) -> None:
        """Read every table again, and drop those whose root is gone."""
        for root in list(self._tables):
            self._read(root)
        self._tell()

    def forget(self, root: str) -> None:
        """The root is not held any more: its path may lead to another one soon."""
        self._turns += 1
        self._unread.discard(root)
        self._slots.pop(root, None)
        self._tables.pop(root, None)
        self._inverted.pop(root, None)

    def unanswered(self) -> set[int]:
        """Slots of sessions whose roots could not be read since this was asked last."""
        slots, self._unanswered = self._unanswered, set()
        return slots

    def tables(self) -> Mapping[str, Mapping[str, _Inode]]:
        """Root -> path -> inode, (0, 0) where there is none; no table is changed once it is here."""
        return dict(self._tables)

    def _read(self, root: str) -> None:
        while True:
            begun, slot = self._turns, self._slots.get(root, 0)
            paths = [path for paths in self._by_leaf.values() for path in paths]
            try:
                table = self._look(lambda: _inodes_of_root(root, paths), ("root", slot))  # noqa: B023 - it is awaited
            except UnansweredError:
                self._unanswered.add(slot)
                return
            if table is None:
                self.forget(root)
                return
            if begun == self._turns:
                self._set(root, table)
                return

    def _set(self, root: str, table: dict[str, _Inode]) -> None:
        inverted: dict[_Inode, list[str]] = {}
        for path, inode in table.items():
            inverted.setdefault(inode, []).append(path)
        inverted.pop(_NOTHING, None)
        self._inverted[root] = inverted
        self._untold |= self._tables.get(root) != table
        self._tables[root] = table

    def _tell(self) -> None:
        with self._telling:
            if self._untold:
                self._untold = False
                self._on_change(*self._everywhere())

    def _everywhere(self) -> tuple[Table, OfSessions]:
        tables = dict(self._tables)
        own = tables.pop("/", {})
        of_sessions: dict[int, list[tuple[str, _Inode]]] = {}
        for root, table in tables.items():
            there = (pair for pair in table.items() if pair[1] != _NOTHING)
            of_sessions.setdefault(self._slots.get(root, 0), []).extend(there)
        return {path: {inode} - {_NOTHING} for path, inode in own.items()}, of_sessions


_NOTHING = (0, 0)


def _inodes_of_root(root: str, paths: Sequence[str]) -> dict[str, _Inode] | None:
    """As `_inodes`; None if there is no such root any more."""
    table = _inodes(root, paths)
    return table if os.path.isdir(root) else None


def _inodes(root: str, paths: Sequence[str]) -> dict[str, _Inode]:
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
