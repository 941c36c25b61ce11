# SPDX-License-Identifier: Apache-2.0
"""One daemon for each state directory, by an flock that ends with its holder; it waits for no living one."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from monitor.directories import PRIVATE, own_directory
from monitor.errors import StoreError
from monitor.procfs import has_ended, is_zombie
from monitor.record.database import explained
from monitor.served import Served

_ENDING_S = 2.0
_LOOK_S = 0.01


class StateLock:
    """Hold `directory`/lock while inside `with`. The kernel lets go of it even after a SIGKILL."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take it, or say who has it."""
        own_directory(self._directory, PRIVATE)
        # Never removed: a second daemon could then lock a new file while the first holds the old.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with explained(self._directory / "lock"):
            self._descriptor = os.open(self._directory / "lock", flags, 0o600)
        if not self._taken() and not (self._is_ending() and self._taken()):
            raise self._refusal()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Let go of it; the file stays."""
        os.close(self._descriptor)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_ending(self) -> bool:
        """A monitor that was killed has all that it had while a thread of it waits for who serves files."""
        holder = self._holder()
        if not holder.isdecimal() or not is_zombie(int(holder)):
            return False
        with closing(Served()) as served:
            served.end_waits()
        give_up_s = time.monotonic() + _ENDING_S
        while not has_ended(int(holder)) and time.monotonic() < give_up_s:
            time.sleep(_LOOK_S)
        return True

    def _holder(self) -> str:
        return os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()

    def _refusal(self) -> StoreError:
        holder = self._holder() or "unknown"
        os.close(self._descriptor)
        return StoreError(
            f"another estop daemon (pid {holder}) uses {self._directory}",
            mend=f"stop it (kill {holder}), or give this one another --state-dir",
        )
