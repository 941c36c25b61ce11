# SPDX-License-Identifier: Apache-2.0
"""How much of a session's files is compared with its agent's at once, and what is left for later.

Files of an agent may have 256 MiB, and one act can name a score of them: while they are compared no
other session is judged, and the monitor gives no sign of life. So an act is judged without what would
take too long, which `settle.py` goes on with some milliseconds at a time; its session stands still
meanwhile, as one does that does more than can be looked at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.sessions.program import AgentProgram

_MOST_BYTES = 256 * 1024 * 1024
"""At once: 70 to 80 ms of two shared cores, one copy of the largest program that is compared at all."""
_REFILL_BYTES_PER_S = 128 * 1024 * 1024
"""In the long run a twentieth of the pipeline's time."""
_MAX_PINNED = 256


class Allowance:
    """So many bytes may be compared, and more as time goes by."""

    def __init__(self, most_bytes: int, refill_bytes_per_s: int = 0) -> None:
        self._most = self._left = float(most_bytes)
        self._refill = refill_bytes_per_s
        self._at = time.monotonic()

    def take(self, size_bytes: int) -> bool:
        """Use it for so many; False if it is used up. The last of them may be more than is left."""
        if self._refill:
            now = time.monotonic()
            self._left = min(self._most, self._left + (now - self._at) * self._refill)
            self._at = now
        if self._left <= 0:
            return False
        self._left -= size_bytes
        return True


class Unknown:
    """A file of which it is not known yet whether it is a copy; close it.

    It stays the same file, whatever becomes of its name.
    """

    _pinned = 0

    def __init__(self, program: AgentProgram, reachable: str, shown: str) -> None:
        self._program = program
        self._shown = shown
        self._fd = -1
        if Unknown._pinned < _MAX_PINNED:  # an agent must not use up our descriptors
            with suppress(OSError):
                self._fd = os.open(reachable, os.O_PATH | os.O_CLOEXEC)
                Unknown._pinned += 1
        self._reachable = f"/proc/self/fd/{self._fd}" if self._fd >= 0 else reachable

    def is_copy(self, allowance: Allowance) -> bool | None:
        """As `AgentProgram.is_copy`, by the program that the session had at the time."""
        return self._program.is_copy(self._reachable, self._shown, allowance)

    def close(self) -> None:
        """Its name alone keeps it from then on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            Unknown._pinned -= 1


class Looks:
    """Of one session."""

    def __init__(self) -> None:
        self._allowance = Allowance(_MOST_BYTES, _REFILL_BYTES_PER_S)
        self._left: list[Unknown] = []

    def is_copy(self, program: AgentProgram, reachable: str, shown: str) -> bool:
        """As `AgentProgram.is_copy`; False also where it is left for later."""
        answer = program.is_copy(reachable, shown, self._allowance)
        if answer is None:
            self._left.append(Unknown(program, reachable, shown))
        return bool(answer)

    def left(self) -> Sequence[Unknown]:
        """What was left since this was asked last; now it is the caller's."""
        left, self._left = self._left, []
        return left
