# SPDX-License-Identifier: Apache-2.0
"""Opens that were told, and are no news for a while: the map `touched` of bpf/maps.h."""

from __future__ import annotations

from monitor.capture import bpf
from monitor.events import Access

_WRITE = int(Access.WRITE)
_NOBODY = (0, 0, 0)
"""Program, mount and name in the row of a marked file: of no open."""


class Touches:
    """For any thread. The programs forget what is oldest by themselves."""

    def __init__(self, touched: bpf.Map | bpf.Cells) -> None:
        self._touched = touched

    def forget(self) -> None:
        """Every open is news again; a file that is marked stays so."""
        for key in list(self._touched.keys()):
            if (key[1:4], key[5]) != (_NOBODY, _WRITE):
                self._touched.delete(*key)

    def mark(self, slot: int, inode: int) -> None:
        """Whoever in the session reads this file is told each time: `is_marked` of bpf/file.bpf.c."""
        self._touched.set((inode, *_NOBODY, slot, _WRITE), (0, 0))
