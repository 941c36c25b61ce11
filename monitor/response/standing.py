# SPDX-License-Identifier: Apache-2.0
"""What a stop is about: whom it meets, what was decided about him, how far it got; it does nothing."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from monitor.subjects import State


class Target(Protocol):
    """What the kill-switch must know of a session."""

    id: str
    slot: int
    cgroup: Path
    cgroup_id: int
    """Inode of that directory. At the same path there may be another cgroup by now, which is not its own;
    `cgroup` and this are written where it gets a new one."""
    state: State
    """`running`, `frozen` and `killed` are written here, under the lock under which that is done."""


class StopReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stop or a release got. `steps_ns` holds the CLOCK_BOOTTIME of each step."""

    done: bool
    steps_ns: dict[str, int]
    detail: str = ""
    stop: int = 0
    """Which one it was: see `Standing.stop`."""


@dataclass(slots=True)
class Standing:
    """What was decided about one session. Whoever changes it, or carries it out, has `lock`.

    Nobody waits for the kernel while he has it. So the pipeline's thread, which needs it between an act
    and its freeze, finds it free, unless somebody decides about the same session at that very moment:
    then it waits until he has written that down, which takes some 0.1 ms.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: int = 0
    """Number of the stop that stands, 0 for none: nobody but `resume` lets the session go."""
    begun: bool = False
    """The kernel was told to freeze it for that."""
    killed: bool = False
    beside: bool = False
    """It lives beside its old cgroup, whose place another one has: see `cgroup_files.make_anew`."""
    contained_ns: int = 0
    """When it was begun to freeze for a verdict that is still out; 0 for none."""

    def lift(self) -> None:
        """It was resumed."""
        self.stop, self.begun, self.contained_ns = 0, False, 0
