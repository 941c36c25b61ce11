# SPDX-License-Identifier: Apache-2.0
"""Who an event is about: the session and the process; immutable snapshots, no behaviour.

What else later events are judged by is here as the next monitor is told it: `Labelled` and `Done`.

The registry (`sessions/registry.py`) owns the living state and hands these out.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class State(StrEnum):
    """Where a session is in its life. `lost`: it left our sight."""

    RUNNING = "running"
    HELD = "held"
    FROZEN = "frozen"
    KILLED = "killed"
    EXITED = "exited"
    LOST = "lost"

    @property
    def alive(self) -> bool:
        """True while processes may exist that can be frozen, resumed or killed."""
        return self in {State.RUNNING, State.HELD, State.FROZEN, State.LOST}


class Mode(StrEnum):
    """`enforce` stops; `observe` stops nothing and the alert says what would have been done."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class Origin(StrEnum):
    """How the session came under watch, which decides what its cgroup is."""

    LAUNCHED = "launched"
    """Started by `estop run`: in its own cgroup before its first instruction."""
    ATTACHED = "attached"
    """Adopted in the cgroup it already had to itself."""
    MOVED = "moved"
    """Adopted, and its processes moved into a cgroup of ours (they shared one with others)."""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process (thread group) of a session, as last seen.

    `image` is the kernel's own path of the executable (of the interpreter for a script);
    `script` is what was asked to run where that differs. `parent` is the parent at birth, which
    stays true after re-parenting. `started_ns` is CLOCK_BOOTTIME; (pid, started_ns) is unique.
    """

    pid: int
    parent: Process | None = None
    parent_pid: int = 0
    started_ns: int = 0
    uid: int = 0
    image: str = ""
    lies_at: str = ""
    """Where its program is, if `image` led to another file when the session began."""
    script: str = ""
    argv: tuple[str, ...] = ()
    argv_truncated: bool = False
    cwd: str = ""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One supervised agent run. `cgroup` is the absolute path of its cgroup2 directory."""

    id: str
    name: str
    state: State
    mode: Mode
    origin: Origin
    cgroup: str
    root_pid: int
    uid: int
    argv: tuple[str, ...] = ()
    started: str = ""
    """RFC 3339, UTC."""
    ended: str = ""
    exit_code: int | None = None
    """Of the agent's own process, as shells tell it; null while that lives, or where nobody saw its end."""
    processes: int = 0
    """Living processes when the snapshot was taken."""
    events: int = 0
    """Events of this session that reached user space."""
    hardening: tuple[str, ...] = ()
    """What the launcher put it under, in its words: `agent/hardening.py` lists them. Empty for a tree
    that ran already."""


FileKey = tuple[int, int]
"""Device and inode."""


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """What in a session has touched a secret: labels by process, and by file."""

    processes: dict[int, list[str]] = {}
    files: list[tuple[FileKey, list[str]]] = []


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a session did so far, and whose home it calls its own; the latest of each, oldest first."""

    home: str = ""
    user_home: str = ""
    written: list[FileKey] = []
    downloaded: list[FileKey] = []
    seen: list[tuple[str, ...]] = []
