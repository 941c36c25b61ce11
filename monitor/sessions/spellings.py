# SPDX-License-Identifier: Apache-2.0
"""Every path by which rules may know a file or a name; it reads the file system, never writes.

A process says one path. The same file has others: through another root directory, another mount, another
link. What a rule names is one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monitor.events import Event, File
from monitor.sessions.disguise import MountTable
from monitor.sessions.live import LiveSession
from monitor.sessions.places import HostMounts, Place, Roots, outer, view_of
from monitor.sessions.watched import WatchedPaths

_Inode = tuple[int, int]


class Spellings:
    """Looks them up, and changes nothing but caches. For one thread."""

    def __init__(self, watched: WatchedPaths, mounts: HostMounts, roots: Roots) -> None:
        self._watched = watched
        self._mounts = mounts
        self._roots = roots
        self._view = view_of()
        self._own: MountTable | None = None
        self._read_at = -1

    def of_file(self, file: File, live: LiveSession, root: str) -> Iterable[str]:
        """Of a file that is open: the kernel side has told where in its file system it lies."""
        path = file.path
        names = [path.text, outer(path.text, root)]
        if path.within != path.text:
            names += self._mounts.spellings(path.device, path.within)
        names += self.watched(root, live, (path.device, file.inode))
        return dict.fromkeys(names)

    def of_name(self, place: Place, event: Event, live: LiveSession) -> Sequence[str]:
        """Of a name, whether or not anything is there: as who acted, the session at first, and we have it.

        Whoever mounts a directory anew gives another path to all the names in it.
        """
        names = [place.path, *filter(None, (place.outer,))]
        table = self._table(event)
        if table is not None:
            lies = table.file(place.path)
            names += live.mounts.spellings(*lies) if live.mounts else ()
            names += self._mounts.spellings(*lies)
        return list(dict.fromkeys(names))

    def _table(self, event: Event) -> MountTable | None:
        """Mounts as who acted sees them; those of who has our view are read when they change."""
        if event.view != self._view:
            return MountTable.of(event.tgid)
        self._mounts.refresh()
        if self._read_at != self._mounts.changes:
            self._read_at = self._mounts.changes
            self._own = MountTable(self._mounts.table)
        return self._own

    def watched(self, root: str, live: LiveSession, key: _Inode) -> Iterable[str]:
        """Watched paths that are this file: where its process looks from, the session at first, we.

        An agent that changes its root directory sees nothing at /etc/hosts any more. It is the same
        file all the same.
        """
        first = self._roots.root(live.view, (live.root_pid,))
        for seen_from in dict.fromkeys((root, first, "/")):
            yield from self._watched.aliases(seen_from, *key, slot=live.slot)
