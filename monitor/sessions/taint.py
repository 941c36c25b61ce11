# SPDX-License-Identifier: Apache-2.0
"""Labels that flow through one session: what has touched a secret, and what that has touched.

A rule gives a label (`estop.taint.LABEL` among its tags) to the process that matched it. It flows
along fork and exec, into files that the process writes, to processes that read those, and to whoever
holds the other end of a pipe. A pipe that is closed before the label comes, shared memory and sockets
between processes carry it unseen.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress

from monitor.procfs import acting
from monitor.sessions.latest import Latest
from monitor.subjects import Labelled

Labels = frozenset[str]

NONE: Labels = frozenset()
TAG = "estop.taint."
_MAX_FILES = 10_000
_FILES_KEPT = 2_000
"""Of them, by the record: rows that wait while the disk is full must not push alerts out."""


def labels_of(tags: Iterable[str]) -> Labels:
    """What a rule with these tags gives to the process that matches it."""
    return frozenset(tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG))


class Taint:
    """Labels by process and by file, (device, inode); the latest 10,000 files."""

    def __init__(self) -> None:
        self._processes: dict[int, Labels] = {}
        self._files: Latest[tuple[int, int], Labels] = Latest(_MAX_FILES)
        self._given = 0

    @property
    def changes(self) -> int:
        """Moves on whenever something has another label than before."""
        return self._given + self._files.changes

    def labelled(self) -> Labelled:
        """For the next monitor."""
        return Labelled(
            processes={pid: sorted(labels) for pid, labels in dict(self._processes).items()},
            files=[(file, sorted(labels)) for file, labels in self._files.newest(_FILES_KEPT)],
        )

    def recall(self, labelled: Labelled, living: Container[int]) -> None:
        """What an earlier monitor knew, of processes that are still there."""
        for pid, labels in labelled.processes.items():
            if pid in living:
                self.give(pid, frozenset(labels))
        self._files.recall((file, frozenset(labels)) for file, labels in labelled.files)

    def of(self, pid: int) -> Labels:
        """The labels of a process."""
        return self._processes.get(pid, NONE)

    def give(self, pid: int, labels: Labels) -> bool:
        """Add labels to a process; True if that is news."""
        known = self.of(pid)
        if labels <= known:
            return False
        self._processes[pid] = known | labels
        self._given += 1
        return True

    def forget(self, pid: int) -> None:
        """The process is gone, or its number is another's now."""
        if self._processes.pop(pid, None):
            self._given += 1

    def wrote(self, pid: int, file: tuple[int, int]) -> None:
        """The process may write what it knows into the file."""
        labels = self.of(pid)
        if labels:
            self._files[file] = self.of_file(file) | labels

    def of_file(self, file: tuple[int, int]) -> Labels:
        """What whoever reads the file gets."""
        return self._files.get(file, NONE)


def at_other_ends(pid: int, others: Iterable[int]) -> Iterator[int]:
    """Those of the others that have a pipe open which the process has open too."""
    pipes = _pipes(pid)
    if pipes:
        yield from (
            other for other in others if other != pid and not pipes.isdisjoint(_pipes(other))
        )


def _pipes(pid: int) -> frozenset[str]:
    directory = f"/proc/{acting(pid)}/fd"
    found = set()
    with suppress(OSError):  # it ended
        for fd in os.listdir(directory):
            with suppress(OSError):  # it closed this one
                found.add(os.readlink(f"{directory}/{fd}"))
    return frozenset(target for target in found if target.startswith("pipe:"))
