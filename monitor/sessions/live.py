# SPDX-License-Identifier: Apache-2.0
"""The living state of one session; it changes under the pipeline's hand and is shown as snapshots."""

from __future__ import annotations

import datetime as dt
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from monitor.events import Event, View
from monitor.fields import Fact
from monitor.looking import Look, UnansweredError
from monitor.sessions.disguise import MountTable
from monitor.sessions.latest import Latest
from monitor.sessions.looks import Looks
from monitor.sessions.process_tree import ProcessTree, has_terminal, home_of
from monitor.sessions.program import AgentProgram, find_program
from monitor.subjects import Done, FileKey, Mode, Origin, Session, State

T = TypeVar("T")
U = TypeVar("U")

_MAX_WRITTEN = 100_000
_MAX_SEEN = 10_000
_ARGV_CHARACTERS = 4096
"""As much of a command line as the kernel tells of: it is kept in the record, and may be a megabyte."""
_WRITTEN_KEPT = 5_000
_SEEN_KEPT = 2_000
"""Of them, by the record: see `taint.py`."""


class WrittenFiles:
    """Inodes that the session created or wrote, the latest `limit` of them."""

    def __init__(self, limit: int = _MAX_WRITTEN) -> None:
        self._inodes: Latest[tuple[int, int], None] = Latest(limit)

    def add(self, device: int, inode: int) -> None:
        """Remember a file; the oldest is forgotten when there are too many."""
        self._inodes[(device, inode)] = None

    @property
    def changes(self) -> int:
        """Moves on with every file that was not known."""
        return self._inodes.changes

    def newest(self) -> list[FileKey]:
        """For the next monitor: the latest 5,000, oldest first."""
        return [key for key, _ in self._inodes.newest(_WRITTEN_KEPT)]

    def recall(self, keys: Iterable[FileKey]) -> None:
        """What an earlier monitor knew."""
        self._inodes.recall((key, None) for key in keys)

    def __contains__(self, key: tuple[int, int]) -> bool:
        return key in self._inodes


class SeenBefore:
    """What the session has done at least once: (category, key), the latest `limit` of them.

    A key is what `FirstSeen` is about: a program, an address with its port, a name asked for.
    """

    def __init__(self, limit: int = _MAX_SEEN) -> None:
        self._keys: Latest[tuple[str, ...], None] = Latest(limit)

    def add(self, fact: Fact) -> None:
        """It happened."""
        key = _seen_key(fact.category, fact.fields)
        if key is not None:
            self._keys[key] = None

    @property
    def changes(self) -> int:
        """Moves on with everything that is done for the first time."""
        return self._keys.changes

    def newest(self) -> list[tuple[str, ...]]:
        """For the next monitor: the latest 2,000, oldest first."""
        return [key for key, _ in self._keys.newest(_SEEN_KEPT)]

    def recall(self, keys: Iterable[tuple[str, ...]]) -> None:
        """What an earlier monitor knew."""
        self._keys.recall((key, None) for key in keys)

    def first(self, category: str, fields: dict[str, Any]) -> bool:
        """Would this be the first of its kind?"""
        key = _seen_key(category, fields)
        return key is None or key not in self._keys


_SEEN_BY = {
    "process_creation": ("Image",),
    "network_connection": ("DestinationIp", "DestinationPort", "DestinationHostname"),
    "dns_query": ("QueryName",),
}


def _seen_key(category: str, fields: dict[str, Any]) -> tuple[str, ...] | None:
    names = _SEEN_BY.get(category)
    return (category, *(str(fields.get(name)) for name in names)) if names else None


@dataclass(kw_only=True)
class LiveSession:
    """Everything the monitor knows of a session while it lives."""

    id: str
    slot: int
    name: str
    mode: Mode
    origin: Origin
    cgroup: Path
    cgroup_id: int = 0
    """Inode of its cgroup's directory: somebody may remove that, and make another one at its path."""
    root_pid: int
    uid: int
    history_events: int
    argv: tuple[str, ...] = ()
    hardening: tuple[str, ...] = ()
    """What the launcher put it under."""
    home: str = ""
    """The agent's own directory, if the user named one."""
    view: View = field(default_factory=lambda: View(0, 0))
    """From where its root process saw the file system at first."""
    mounts: MountTable | None = None
    """What its root process had mounted at first; None where that cannot be known."""
    user_home: str = ""
    """HOME of its root process, resolved; what `~` means to the agent."""
    state: State = State.RUNNING
    started: str = ""
    ended: str = ""
    exit_code: int | None = None
    events: int = 0
    held_back_ns: int = 0
    """How long it stood still because it did more than could be looked at."""
    unjudged: int = 0
    """Acts that wait for a verdict and could not be judged: `fail_mode` decides."""
    unanswered: bool = False
    """What it touched is on a file system whose server did not answer; the housekeeper takes note of it."""
    empty_ns: int = 0
    """When its cgroup was found empty."""
    sent_bytes: int = 0
    """What had left the session by its latest event."""
    populated: bool = False
    """True once its cgroup has had a process: only then does an empty one mean the end."""
    program: AgentProgram = field(default_factory=lambda: AgentProgram((), ()))
    written: WrittenFiles = field(default_factory=WrittenFiles)
    downloaded: WrittenFiles = field(default_factory=WrittenFiles)
    """Of the written ones those that a download tool wrote."""
    seen: SeenBefore = field(default_factory=SeenBefore)
    looks: Looks = field(default_factory=Looks)
    tree: ProcessTree = field(init=False)
    history: deque[Event] = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.started or now_text()
        self.argv = _kept(self.argv)
        self.tree = ProcessTree(
            self.id,
            root_pid=self.root_pid,
            interactive=has_terminal(self.root_pid),
            is_own=self._is_own,
        )
        self.history = deque(maxlen=self.history_events)

    def _is_own(self, path: str) -> bool:
        """A file of the agent's program, as it was before the session began."""
        if not self.program.owns(path):
            return False
        try:
            found = os.stat(path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) not in self.written

    @property
    def changes(self) -> int:
        """Moves on whenever `done` would tell something new."""
        return self.written.changes + self.downloaded.changes + self.seen.changes

    def done(self) -> Done:
        """What it did so far, for the next monitor."""
        return Done(
            home=self.home,
            user_home=self.user_home,
            written=self.written.newest(),
            downloaded=self.downloaded.newest(),
            seen=self.seen.newest(),
        )

    def recall(self, done: Done) -> None:
        """What an earlier monitor knew of it."""
        self.written.recall(done.written)
        self.downloaded.recall(done.downloaded)
        self.seen.recall(done.seen)

    def shed(self) -> None:
        """It ended: nothing but its snapshot is asked for any more, and a build leaves megabytes."""
        self.program = AgentProgram((), ())
        self.written, self.downloaded, self.seen = WrittenFiles(), WrittenFiles(), SeenBefore()
        self.tree, self.history = ProcessTree(self.id), deque()

    def know_agent(self, argv: Sequence[str], cwd: str) -> None:
        """What its program consists of, by the command line of its first process, and what is its home."""
        program, home = find_program(argv, cwd, self.home), home_of(self.root_pid)
        self.program, self.user_home = program, home

    def looked(self, look: Look, at: Callable[[], T], otherwise: U) -> T | U:
        """What `at` returns, or else where nobody answers in time for what it looks at."""
        try:
            return look(at, self.slot)
        except UnansweredError:
            self.does_not_answer()
            return otherwise

    def does_not_answer(self) -> None:
        """Some file could not be looked at in time; of who stands still already that is no news."""
        self.unanswered = self.state is State.RUNNING

    def snapshot(self) -> Session:
        """The session as the API, the store and the policy see it."""
        return Session(
            id=self.id,
            name=self.name,
            state=self.state,
            mode=self.mode,
            origin=self.origin,
            cgroup=str(self.cgroup),
            root_pid=self.root_pid,
            uid=self.uid,
            argv=self.argv,
            started=self.started,
            ended=self.ended,
            exit_code=self.exit_code,
            processes=0 if self.ended else len(self.tree),
            events=self.events,
            hardening=self.hardening,
        )


def now_text() -> str:
    """Wall time for people, RFC 3339 with milliseconds."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def _kept(argv: Sequence[str]) -> tuple[str, ...]:
    """The words of a command line that begin within 4,096 characters; the last one may be cut."""
    kept, room = [], _ARGV_CHARACTERS
    for word in argv:
        if room <= 0:
            break
        kept.append(word[:room])
        room -= len(word) + 1
    return tuple(kept)
