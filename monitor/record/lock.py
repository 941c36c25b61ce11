# SPDX-License-Identifier: Apache-2.0
"""One daemon for each state directory, by an flock that ends with its holder; it must not wait."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from monitor.directories import PRIVATE, own_directory
from monitor.errors import StoreError
from monitor.record.database import explained


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
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._refusal() from error
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

    def _refusal(self) -> StoreError:
        holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(self._descriptor)
        return StoreError(
            f"another estop daemon (pid {holder}) uses {self._directory}",
            mend=f"stop it (kill {holder}), or give this one another --state-dir",
        )
