# SPDX-License-Identifier: Apache-2.0
"""Which files the gate asks about: those whose open a rule that stops may mean, while it may stop.

A mark is paid by everybody who opens the file, so there are marks only while a session lives that
is not merely observed, and directories are chosen with care. What has no mark is still held by the
kernel side, after its open.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from monitor.looking import Look, UnansweredError, at_once
from monitor.lowered import KERNELS_OWN, Act, Lowered, WatchIndex, Where

Inode = tuple[int, int]
Tables = Mapping[str, Mapping[str, Inode]]
"""Root -> path -> inode, as `sessions.watched.WatchedPaths` knows them; (0, 0) where there is none."""

_OPENS = Act.READ | Act.WRITE | Act.CREATE
"""Not EXEC: what a program is started with is not known yet when its file is asked about."""
_NOTHING = (0, 0)
_SHARED = {".config", ".local", ".local/share", ".local/state", ".local/bin", ".cache"}
"""Dot directories of a home in which every program looks for its own (the XDG base directories)."""
_MOST_ENTRIES = 64
_LEAST_DEPTH = 2


class Gate(Protocol):
    """The part of `capture.gate.Gate` that is told what to ask about."""

    def set_marks(self, files: Mapping[Inode, str], directories: Mapping[Inode, str]) -> None:
        """Ask about exactly these; each with a path by which we reach it."""
        ...

    def mark(self, path: str) -> None:
        """Ask about the file that lies there now."""
        ...


class Marks:
    """Keeps the gate's marks in step with rules, file system and sessions. Thread-safe.

    `homes_of_sessions` gives root and home of each session that may be stopped: without one there
    are no marks.
    """

    def __init__(
        self,
        gate: Gate,
        homes_of_sessions: Callable[[], tuple[tuple[str, str], ...]],
        *,
        homes: Sequence[str],
        look: Look = at_once,
    ) -> None:
        self._gate = gate
        self._look = look
        self._tables: Tables = {}
        self._homes_of_sessions = homes_of_sessions
        self._homes = homes
        self._lock = threading.Lock()
        self._lowered = Lowered()
        self._watches = WatchIndex()
        self._asks: dict[str, bool] = {}
        self._given_up = False
        self._set_for: tuple[tuple[str, str], ...] | None = ()
        """The sessions that there were when the marks were set; None if that must be done again."""

    def replace(self, lowered: Lowered) -> None:
        """Ask what these watches need from now on."""
        with self._lock:
            self._lowered = lowered
            self._watches = WatchIndex(lowered.watches)
            self._asks.clear()
            self._set_for = None

    def follow(self, tables: Tables) -> None:
        """Mark what the watched paths lead to by now; where all is as it was, nothing is done.

        To do it all takes milliseconds, in which the pipeline has to ask for the interpreter's lock.
        """
        with self._lock:
            known = tables == self._tables and self._homes_of_sessions() == self._set_for
            self._tables = tables
        if not known:
            self.refresh()

    def refresh(self) -> None:
        """Mark what should be marked now, all of it anew: an inode's number may be another's."""
        with self._lock:
            self._given_up = False
            sessions = self._homes_of_sessions()
            if sessions:
                files = dict(self._files(sessions))
                self._gate.set_marks(files, dict(self._directories(sessions)))
            elif self._set_for != ():
                self._gate.set_marks({}, {})
            self._set_for = sessions

    def renewed(self, names: Iterable[tuple[str, str]]) -> None:
        """Another file may lie at these names: (path, a path by which we reach it)."""
        with self._lock:
            if not self._set_for:
                return
            for path, reachable in names:
                if self._asked_about(path):
                    self._gate.mark(reachable)

    def _asked_about(self, path: str) -> bool:
        found = self._asks.get(path)
        if found is None:
            found = self._asks[path] = not path.startswith(KERNELS_OWN) and any(
                watch.hold & _OPENS for watch in self._watches.of(path)
            )
        return found

    def _files(self, sessions: Sequence[tuple[str, str]]) -> Iterator[tuple[Inode, str]]:
        for root, table in self._tables.items():
            for path, inode in table.items():
                if inode != _NOTHING and self._asked_about(path):
                    yield inode, _join(root, path)
        for root, home in self._strange(sessions):
            reachable = [_join(root, path) for path in self._in_home(home)]
            yield from self._looked(_inodes, reachable, home)

    def _strange(self, sessions: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """An agent may have been given a home that is no user's: `FactMaker` knows it too."""
        return (pair for pair in set(sessions) if pair[1] and pair[1] not in self._homes)

    def _in_home(self, home: str) -> Iterator[str]:
        for watch in self._lowered.watches:
            if watch.where is Where.ENDING and watch.hold & _OPENS and watch.path.startswith("/."):
                yield home + watch.path

    def _directories(self, sessions: Sequence[tuple[str, str]]) -> Iterator[tuple[Inode, str]]:
        """Directories in which also what is made later is asked about.

        Everybody pays for every open in them, so: those that a rule names as a whole, and those
        where the files of one program of one user lie (`_is_private`); none that is full.
        A directory's mark does not reach into those below it.
        """
        named = {
            w.path.rstrip("/")
            for w in self._lowered.watches
            if w.where is Where.BELOW and w.hold & _OPENS
        }
        for root, table in self._tables.items():
            parents = {os.path.dirname(p) for p in table if self._asked_about(p)}
            private = {p for p in parents if self._is_private(p, self._homes)}
            directories = [_join(root, path) for path in named | private if _may_be_asked(path)]
            yield from self._looked(_small, directories, root)
        for root, home in self._strange(sessions):
            parents = {os.path.dirname(p) for p in self._in_home(home)}
            private = {p for p in parents if self._is_private(p, [home])}
            directories = [_join(root, path) for path in private if _may_be_asked(path)]
            yield from self._looked(_small, directories, home)

    def _looked(
        self,
        find: Callable[[Sequence[str]], Sequence[tuple[Inode, str]]],
        reachable: Sequence[str],
        whose: str,
    ) -> Sequence[tuple[Inode, str]]:
        """Nothing where nobody answers, and nothing more in this turn: the pipeline may want the lock.

        What is there is held after its open. Who did not answer is not waited for in the next turn.
        """
        if self._given_up:
            return ()
        try:
            return self._look(lambda: find(reachable), (find, whose))
        except UnansweredError as error:
            self._given_up = error.waited
            return ()

    def _is_private(self, directory: str, homes: Sequence[str]) -> bool:
        for home in homes:
            if directory.startswith(home + "/."):
                return directory.removeprefix(home + "/") not in _SHARED
        return False


def _may_be_asked(directory: str) -> bool:
    return directory.count("/") >= _LEAST_DEPTH and not f"{directory}/".startswith(KERNELS_OWN)


def _inodes(paths: Sequence[str]) -> Sequence[tuple[Inode, str]]:
    """Of those where something is."""
    return [(found, path) for path in paths if (found := _inode(path)) is not None]


def _small(directories: Sequence[str]) -> Sequence[tuple[Inode, str]]:
    """Of those that hold few."""
    return [pair for pair in _inodes(directories) if _entries(pair[1]) <= _MOST_ENTRIES]


def _entries(directory: str) -> int:
    """How many, or one too many."""
    try:
        with os.scandir(directory) as entries:
            return sum(1 for _, _ in zip(entries, range(_MOST_ENTRIES + 1), strict=False))
    except OSError:
        return _MOST_ENTRIES + 1


def _inode(path: str) -> Inode | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _join(root: str, path: str) -> str:
    return root.rstrip("/") + path
