# SPDX-License-Identifier: Apache-2.0
"""Every path by which rules may know a file or a name; it reads the file system, never writes.

A process says one path. The same file has others: through another root directory, another mount, another
link. What a rule names is one of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from monitor.events import Event, Opened
from monitor.sessions import disguise
from monitor.sessions.disguise import MountTable
from monitor.sessions.live import LiveSession
from monitor.sessions.places import HostMounts, Place, Roots, outer, view_of
from monitor.sessions.watched import WatchedPaths

_Inode = tuple[int, int]
_LONG_S = 0.002
_SHARE = 0.05
"""Of the time that goes by, what may go into reading our own mounts where that takes long: an agent with
root can change a table of thousands between any two of its acts."""


class Spellings:
    """Looks them up, and changes nothing but caches. For one thread."""

    def __init__(self, watched: WatchedPaths, mounts: HostMounts, roots: Roots) -> None:
        self._watched = watched
        self._mounts = mounts
        self._roots = roots
        self._view = view_of()
        self._own: MountTable | None = None
        self._theirs: MountTable | None = None
        self._read_for: Event | None = None
        self._read_at = -1
        self._again_s = 0.0

    def of_file(self, event: Opened, live: LiveSession, root: str) -> Iterable[str]:
        """Of a file that is open: the kernel side has told where in its file system it lies."""
        path = event.file.path
        names = [path.text, outer(path.text, root)]
        if path.within != path.text:
            known = self._mounts.spellings(path.device, path.within)
            if known and path.text not in known:
                # The number may be another file system's by now, which the session made.
                self._mounts.refresh()
                known = self._mounts.spellings(path.device, path.within)
            names += known or disguise.names_of_the_kernels(path, (event.tgid, live.root_pid))
        names += self.watched(root, live, (path.device, event.file.inode))
        return dict.fromkeys(names)

    def of_name(self, place: Place, event: Event, live: LiveSession, root: str) -> Sequence[str]:
        """Of a name, whether or not anything is there: as who acted, the session at first, and we have it.

        Whoever mounts a directory anew gives another path to all the names in it. What is watched is known
        by the directory itself; for whatever else a rule may mean, the tables of mounts are asked.
        """
        names = [place.path, *filter(None, (place.outer,))]
        leaf = place.path.rpartition("/")[2]
        for seen_from in self._looked_from(root, live):
            names += self._watched.named(seen_from, leaf, place.folder)
        table = self._table(event)
        if table is not None:
            lies = table.file(place.path)
            names += live.mounts.spellings(*lies) if live.mounts else ()
            names += self._mounts.spellings(*lies)
        return list(dict.fromkeys(names))

    def _table(self, event: Event) -> MountTable | None:
        """Mounts as who acted sees them; those of who has our view are read when they change."""
        if event.view != self._view:
            if event is not self._read_for:  # one event may hold several names
                self._read_for, self._theirs = event, MountTable.of_event(event)
            return self._theirs
        if time.monotonic() >= self._again_s:
            begun_s = time.monotonic()
            self._mounts.refresh()
            if self._read_at != self._mounts.changes:
                self._read_at = self._mounts.changes
                self._own = MountTable(self._mounts.table)
            took_s = time.monotonic() - begun_s
            self._again_s = begun_s + took_s / _SHARE if took_s > _LONG_S else 0.0
        return self._own

    def watched(self, root: str, live: LiveSession, key: _Inode) -> Iterable[str]:
        """Watched paths that are this file."""
        for seen_from in self._looked_from(root, live):
            yield from self._watched.aliases(seen_from, *key, slot=live.slot)

    def _looked_from(self, root: str, live: LiveSession) -> Iterable[str]:
        """Where its process looks from, the session at first, and we.

        An agent that changes its root directory sees nothing at /etc/hosts any more. It is the same
        file all the same.
        """
        return dict.fromkeys((root, self._roots.root(live.view, (live.root_pid,)), "/"))
