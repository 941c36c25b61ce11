# SPDX-License-Identifier: Apache-2.0
"""Events as the facts that rules see: Sigma's categories and fields, one fact for each spelling.

Processes and files are here, the rest in `facts_network.py` and `facts_privilege.py`.
`fields.CATEGORIES` says what every field means; a contract test holds these modules to it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from monitor import events
from monitor.fields import Fact
from monitor.sessions import disguise, facts_network, facts_privilege
from monitor.sessions.arguments import argument_files, join
from monitor.sessions.live import LiveSession
from monitor.sessions.places import HostMounts, Place, Roots, resolve, view_of
from monitor.sessions.settle import Settled
from monitor.sessions.spellings import Spellings
from monitor.sessions.watched import WatchedPaths
from monitor.subjects import Process

_Fields = dict[str, Any]


class FactMaker:
    """Turns an event in its context into facts. It looks things up and changes nothing but caches."""

    def __init__(
        self, watched: WatchedPaths, mounts: HostMounts, roots: Roots, *, homes: Sequence[str] = ()
    ) -> None:
        self._homes = tuple(homes)
        self._watched = watched
        self._mounts = mounts
        self._roots = roots
        self._spellings = Spellings(watched, mounts, roots)
        self._makers: dict[type, Callable[[Any, LiveSession, Process], Iterable[Fact]]] = {
            events.Executed: self._executed,
            events.Exited: self._exited,
            events.Opened: self._opened,
            events.Renamed: self._renamed,
            events.Linked: self._linked,
            events.Symlinked: self._symlinked,
            events.Unlinked: self._unlinked,
            events.Truncated: self._truncated,
            events.ModeChanged: self._mode_changed,
            events.Privileged: self._privileged,
            **facts_network.MAKERS,
            **facts_privilege.MAKERS,
        }

    def facts(self, event: events.Event, live: LiveSession, process: Process) -> Sequence[Fact]:
        """All facts of an event, none for a kind that no rule speaks of."""
        maker = self._makers.get(type(event))
        return self._told(maker(event, live, process), live, process, event) if maker else ()

    def _told(
        self,
        facts: Iterable[Fact],
        live: LiveSession,
        process: Process,
        event: events.Event | None = None,
    ) -> Sequence[Fact]:
        """What only looks like a program of the host's goes by where it lies too: no rule forgives it."""
        found = tuple(self._at_home(facts, live))
        other = live.tree.other_names(process)
        if not other:
            return found
        own = ""
        if event is not None:
            target = getattr(event, "target", None)
            named = (
                isinstance(target, events.Name) and resolve(target, self._root(event, live)).path
            )
            own = disguise.own_name(event, named or "", live.mounts, self._mounts)
        return found + tuple(
            Fact(category=fact.category, fields={**fact.fields, **other})
            for fact in found
            if not own or fact.fields.get("TargetFilename") != own
        )

    def _at_home(self, facts: Iterable[Fact], live: LiveSession) -> Iterable[Fact]:
        """Rules know the homes of the machine's users; an agent may have been given another one."""
        yours, ours = live.user_home + "/", self._homes[0] + "/" if self._homes else ""
        known = not ours or yours == "/" or live.user_home in self._homes
        for fact in facts:
            yield fact
            if known:
                continue
            moved = {
                name: ours + path.removeprefix(yours)
                for name in _PATH_FIELDS
                if isinstance(path := fact.fields.get(name), str) and path.startswith(yours)
            }
            if moved:
                yield Fact(category=fact.category, fields={**fact.fields, **moved})

    def look_around(self, live: LiveSession) -> None:
        """Know the watched paths as a session sees them before it has done anything."""
        live.view, live.mounts = view_of(live.root_pid), disguise.MountTable.of(live.root_pid)
        self._watched.read(self._roots.root(live.view, (live.root_pid,)), slot=live.slot)
        for process in live.tree:  # an earlier monitor may have seen them start
            other = disguise.lies_at_now(process.pid, process.image, live.mounts, self._mounts)
            if other:
                live.tree.add(replace(process, lies_at=other))

    def lies_at(self, path: events.Path, live: LiveSession) -> str:
        """As `disguise.lies_at`, for a program that is started."""
        return disguise.lies_at(path, live.mounts, self._mounts)

    def reachable(self, event: events.Opened, live: LiveSession) -> str:
        """A path by which the monitor itself can read the opened file."""
        return join(self._root(event, live), event.file.path.text)

    def name_changed(self, fact: Fact) -> None:
        """A name came or went: if a watched path ends in it, that may be another inode now."""
        for name in _PATH_FIELDS:
            self._watched.changed(_leaf(fact.fields.get(name, "")))

    # Processes ----------------------------------------------------------------------------------

    def _executed(
        self, event: events.Executed, live: LiveSession, process: Process
    ) -> Iterable[Fact]:
        image = event.image
        root = self._root(event, live)
        started = [(image.path.device, image.inode, image.path.text)]
        if not event.argv_truncated or event.argv:
            started += argument_files(event, root)
        fields = {
            **live.tree.fields(process),
            "LogonId": process.uid,
            "WrittenBySession": any((dev, ino) in live.written for dev, ino, _ in started),
            "Downloaded": any((dev, ino) in live.downloaded for dev, ino, _ in started),
            "SelfCopy": any(
                (dev, ino) in live.written
                and live.looks.is_copy(live.program, join(root, path), path)
                for dev, ino, path in started
            ),
            # The agent's own start names itself too; only what comes after it means anything.
            "SelfNamed": event.tgid != live.root_pid
            and not live.program.owns(image.path.text)
            and live.program.named_by(event.argv[1:], event.cwd.text),
            "Preloaded": disguise.is_preloaded(event.tgid),
            "Deleted": image.links == 0,
        }
        fields["FirstSeen"] = live.seen.first("process_creation", fields)
        yield Fact(category="process_creation", fields=fields)

    def _exited(self, event: events.Exited, live: LiveSession, process: Process) -> Iterable[Fact]:
        fields = {**live.tree.fields(process), "ExitCode": event.exit_code}
        yield Fact(category="process_termination", fields=fields)

    # Files --------------------------------------------------------------------------------------

    def _opened(self, event: events.Opened, live: LiveSession, process: Process) -> Iterable[Fact]:
        file = event.file
        key = (file.path.device, file.inode)
        root = self._root(event, live)
        written = key in live.written
        created = bool(event.access & events.Access.CREATED)
        if created:
            self._is_new(root, live, key)
        spellings = self._spellings.of_file(event, live, root)
        if event.access & events.Access.READ:
            shown = file.path.text
            copy = written and live.looks.is_copy(live.program, join(root, shown), shown)
            read: _Fields = {
                "WrittenBySession": written,
                "SelfCopy": copy,
                "Downloaded": key in live.downloaded,
            }
            yield from self._file("file_access", spellings, key, live, process, **read)
        if event.access & events.Access.WRITE:
            wrote = {"WrittenBySession": written, "Operation": "open"}
            if created:
                wrote |= {"Operation": "create", "Mode": f"{stat.S_IMODE(file.mode):o}"}
            yield from self._file("file_event", spellings, key, live, process, **wrote)

    def settled(self, found: Settled) -> Sequence[Fact]:
        """A file that was written has come to rest."""
        facts = self._file(
            "file_event",
            (found.file.path,),
            found.file.key,
            found.live,
            found.process,
            WrittenBySession=True,
            SelfCopy=found.copy,
            SelfNamed=not found.copy,
            Operation="settled",
        )
        return self._told(facts, found.live, found.process)

    def _renamed(
        self, event: events.Renamed, live: LiveSession, process: Process
    ) -> Iterable[Fact]:
        root = self._root(event, live)
        source = resolve(event.source, root)
        target = resolve(event.target, root)
        content = self._content(target, live)
        key = (target.device, target.inode)
        names = self._spellings.of_name(source, event, live, root)
        first, *others = dict.fromkeys([*names, *self._spellings.watched(root, live, key)])
        moved = {"SourceFilename": first, **content}
        yield from self._place("file_rename", event, target, live, process, **moved)
        for other in others:  # what was moved may be known by that spelling only
            moved = {"SourceFilename": other, **content}
            place = (target.outer or target.path,)
            yield from self._file("file_rename", place, key, live, process, **moved)
        yield from self._moved_along(
            names, self._spellings.of_name(target, event, live, root), live, process
        )

    def _moved_along(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        live: LiveSession,
        process: Process,
    ) -> Iterable[Fact]:
        """What lay in a directory that was renamed got another path, and so did what is there now."""
        for source in sources:
            for path in self._watched.below(source):
                away = {"SourceFilename": path}
                place = (targets[0] + path.removeprefix(source),)
                yield from self._file("file_rename", place, (0, 0), live, process, **away)
        for target in targets:
            for path in self._watched.below(target):
                there = {"SourceFilename": sources[0] + path.removeprefix(target)}
                yield from self._file("file_rename", (path,), (0, 0), live, process, **there)

    def _linked(self, event: events.Linked, live: LiveSession, process: Process) -> Iterable[Fact]:
        root = self._root(event, live)
        target = resolve(event.target, root)
        place = resolve(event.source, root)
        content = self._content(target, live)
        key = (target.device, target.inode)
        names = self._spellings.of_name(target, event, live, root)
        for source in {
            *self._spellings.of_name(place, event, live, root),
            *self._spellings.watched(root, live, key),
        }:
            extra = {"SourceFilename": source, "Operation": "link", **content}
            yield from self._file("file_event", names, key, live, process, **extra)

    def _symlinked(
        self, event: events.Symlinked, live: LiveSession, process: Process
    ) -> Iterable[Fact]:
        root = self._root(event, live)
        link = resolve(event.target, root)
        self._is_new(root, live, (link.device, link.inode))
        pointed = event.text
        if not pointed.startswith("/"):
            pointed = os.path.normpath(os.path.join(os.path.dirname(link.path), pointed))
        extra = {
            "SourceFilename": pointed,
            "Operation": "symlink",
            "SelfPath": live.program.owns(pointed),
        }
        yield from self._place("file_event", event, link, live, process, **extra)

    def _unlinked(
        self, event: events.Unlinked, live: LiveSession, process: Process
    ) -> Iterable[Fact]:
        root = self._root(event, live)
        place = resolve(event.target, root)
        names = self._spellings.of_name(place, event, live, root)
        yield from self._file("file_delete", names, (0, 0), live, process)

    def _truncated(
        self, event: events.Truncated, live: LiveSession, process: Process
    ) -> Iterable[Fact]:
        root = self._root(event, live)
        place = resolve(event.target, root, follow=True)
        yield from self._place("file_event", event, place, live, process, Operation="truncate")

    def _mode_changed(
        self, event: events.ModeChanged, live: LiveSession, process: Process
    ) -> Iterable[Fact]:
        root = self._root(event, live)
        place = resolve(event.target, root, follow=True)
        extra = {"Operation": "chmod", "Mode": f"{event.mode:o}"}
        yield from self._place("file_event", event, place, live, process, **extra)

    def _privileged(
        self, event: events.Privileged, live: LiveSession, process: Process
    ) -> Iterable[Fact]:
        paths: Iterable[str] = ("",)
        if event.operation in facts_privilege.MOUNTS and event.text:
            place = resolve(
                facts_privilege.mounted_at(event, process), self._root(event, live), follow=True
            )
            paths = dict.fromkeys(filter(None, (place.path, place.outer)))
        for path in paths:
            yield from facts_privilege.privileged(event, live, process, path)

    def _content(self, place: Place, live: LiveSession) -> _Fields:
        """A name that appears with its content already there can be judged at once."""
        reachable = os.path.join(place.directory, _leaf(place.path))
        return {
            "WrittenBySession": (place.device, place.inode) in live.written,
            "SelfCopy": live.looks.is_copy(live.program, reachable, place.path),
            "SelfNamed": live.program.named_in(reachable),
        }

    def _place(
        self,
        category: str,
        event: events.Event,
        place: Place,
        live: LiveSession,
        process: Process,
        **extra: object,
    ) -> Iterable[Fact]:
        root, key = self._root(event, live), (place.device, place.inode)
        paths = [*self._spellings.of_name(place, event, live, root)]
        if place.inode:
            paths += self._spellings.watched(root, live, key)
        return self._file(category, dict.fromkeys(paths), key, live, process, **extra)

    def _file(
        self,
        category: str,
        spellings: Iterable[str],
        key: tuple[int, int],
        live: LiveSession,
        process: Process,
        **extra: object,
    ) -> Iterable[Fact]:
        device, inode = key
        common = {
            **live.tree.fields(process),
            "Device": f"{os.major(device)}:{os.minor(device)}",
            "Inode": inode,
            "SelfCopy": False,
            "WrittenBySession": False,
        }
        for path in spellings:
            own = {"TargetFilename": path, "SelfPath": live.program.owns(path)}
            yield Fact(category=category, fields={**common, **own, **extra})

    def _is_new(self, root: str, live: LiveSession, key: tuple[int, int]) -> None:
        """What was just made has no older name: its inode may have been a watched file's before."""
        for path in list(self._spellings.watched(root, live, key)):
            self._watched.changed(_leaf(path))

    def _root(self, event: events.Event, live: LiveSession) -> str:
        return self._roots.root(event.view, _pids(event, live))


_PATH_FIELDS = ("TargetFilename", "SourceFilename")


def _leaf(path: str) -> str:
    return path.rpartition("/")[2]


def _pids(event: events.Event, live: LiveSession) -> Iterable[int]:
    """Through whose /proc the event's mount namespace may be reached, nearest first."""
    yield from dict.fromkeys((event.tid, event.tgid, live.root_pid))
    yield from (process.pid for process in live.tree)
