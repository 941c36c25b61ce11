# SPDX-License-Identifier: Apache-2.0
"""Where a name leads, and under which names an inode is known; it reads the file system, never writes.

Names come from system calls of processes that may be in another mount namespace, chrooted, or gone.
They are resolved from a living process of the same namespace with openat2(RESOLVE_IN_ROOT), so that
`..` and absolute symlinks stay inside the root that process had.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec

from monitor.events import Name, View
from monitor.filecalls import AT_FDCWD, RESOLVE_IN_ROOT, openat2, status_at_hand
from monitor.procfs import acting, lines_of

_ROOT_FACTOR = 0x9E3779B1
_MOST_HELD = 128
_MOST_CLOSING = 1024
"""Descriptors that wait to be closed: an agent must not be able to take all that we may have."""
_NEAREST = 3
"""The thread that acted, its process, and its session's first."""
_SHARE = 0.05
"""Of the time that goes by, what may go into asking all processes who sees the same as another."""
_O_DIRECTORY_PATH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Place(msgspec.Struct, frozen=True):
    """A resolved name: its path as its process sees it, and the inode there (0 if there is none)."""

    path: str
    device: int = 0
    inode: int = 0
    directory: str = ""
    """A path by which *we* can reach the directory, e.g. below /proc/self/fd/9."""
    outer: str = ""
    """Its path in its mount namespace, where a chroot makes that another one."""
    folder: tuple[int, int] = (0, 0)
    """Device and inode of the directory."""


def open_in_root(root: str, path: str, flags: int = _O_DIRECTORY_PATH) -> int:
    """A descriptor of the directory `path`, resolved as a process with that root would; OSError."""
    root_fd = os.open(root, _O_DIRECTORY_PATH)
    try:
        return openat2(root_fd, os.fsencode(path) or b".", flags, RESOLVE_IN_ROOT)
    finally:
        os.close(root_fd)


def view_of(pid: int | str = "self") -> View:
    """From where a process (or a thread) sees the file system; (0, 0) if it is gone."""
    with suppress(OSError):
        return _view_of(pid)
    with suppress(OSError):  # its main thread may have ended alone
        return _view_of(acting(int(pid)))
    return View(0, 0)


def _view_of(pid: int | str) -> View:
    return View(os.stat(f"/proc/{pid}/ns/mnt").st_ino, _number_of(f"/proc/{pid}/root"))


def _number_of(root: str) -> int:
    """What `root_of` in bpf/emit.h makes of a root directory: its inode and its mount, mixed."""
    # As it is known: who serves its own root directory is not asked.
    found = status_at_hand(AT_FDCWD, os.fsencode(root))
    return (found.inode + found.mount * _ROOT_FACTOR) & 0xFFFFFFFF


class Roots:
    """A root directory for each view, reached once by way of a living process and then held open.

    Held, because the process may end and its pid be given to another while the view lives on; and
    its namespace with it, because the kernel gives the number of a dead namespace to the next one.
    What was not asked for during `keep_s` is let go by `release`, but for what it is told to keep; of
    more than 128, so is what was not asked for longest.
    """

    def __init__(
        self,
        *,
        released: Callable[[str], None] = lambda _: None,
        keep_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`released` is told of a root that is let go: its number may be given to another one."""
        self._released = released
        self._own = view_of()
        self._keep_s = keep_s
        self._clock = clock
        self._held: dict[View, tuple[int, int]] = {}
        self._used: dict[View, float] = {}
        self._kept: Container[View] = ()
        self._ask_all_s = -math.inf
        """From when on every process of a session may be asked again."""
        self._closing: deque[int] = deque()

    def root(self, view: View, pids: Iterable[int]) -> str:
        """`/` for our own view, else a path below /proc/self/fd; `/` if nobody has the view."""
        if view == self._own or not view.mnt_ns:
            return "/"
        self._used[view] = self._clock()
        held = self._held.get(view)
        if held is None:
            held = self._open(view, pids)
            if held is None:
                return "/"
            self._held[view] = held
            self._make_room()
        return _path_of(held)

    def _open(self, view: View, pids: Iterable[int]) -> tuple[int, int] | None:
        # Where it is not one of the nearest, who had it has ended, as a rule. To ask all the others
        # takes milliseconds, and an agent can have that done for each of its events.
        if len(self._closing) > _MOST_CLOSING:
            return None
        nearest = list(islice(others := iter(pids), _NEAREST))
        held = _open_root(view, nearest)
        begun_s = self._clock()
        if held is None and begun_s >= self._ask_all_s:
            held = _open_root(view, others)
            took_s = self._clock() - begun_s
            self._ask_all_s = begun_s + took_s / _SHARE
        return held

    def _make_room(self) -> None:
        if len(self._held) > _MOST_HELD:
            others = [view for view in list(self._held) if view not in self._kept]
            oldest = min(others, key=lambda view: self._used.get(view, 0.0), default=None)
            if oldest is not None:
                self._let_go(oldest)

    def _let_go(self, view: View) -> None:
        self._used.pop(view, None)
        held = self._held.pop(view, None)
        if held is not None:
            self._released(_path_of(held))
            self._closing.extend(held)

    def release(self, keep: Container[View] = ()) -> None:
        """Let go of roots that nobody asked for lately, unless it is one of `keep`."""
        self._kept = keep
        oldest = self._clock() - self._keep_s
        for view, used in list(self._used.items()):
            if used < oldest and view not in keep:
                self._let_go(view)
        # Here and not where they are let go: with its last descriptor a namespace ends, which takes a
        # millisecond that the pipeline does not have.
        while self._closing:
            os.close(self._closing.popleft())


def _path_of(held: tuple[int, int]) -> str:
    return f"/proc/self/fd/{held[0]}"


def _open_root(view: View, pids: Iterable[int]) -> tuple[int, int] | None:
    """Descriptors of the root directory and of the namespace, of the first process with this view."""
    for pid in pids:
        if view_of(pid) != view:
            continue
        opened: list[int] = []
        thread = acting(pid)
        try:
            opened.append(os.open(f"/proc/{thread}/root", _O_DIRECTORY_PATH))
            opened.append(os.open(f"/proc/{thread}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            view_now = View(0, 0)  # it ended
        else:
            view_now = view_of(thread)
        if view_now == view:  # it did not change its root in between
            return opened[0], opened[1]
        for descriptor in opened:
            os.close(descriptor)
    return None


def resolve(name: Name, root: str, *, follow: bool = False) -> Place:
    """Where `name` leads. The last part is looked at but, unless `follow`, not followed."""
    text = name.text
    if not text.startswith("/"):
        text = f"{name.base.text if name.base else ''}/{text}" if text else _base_text(name)
    text = text.rstrip("/") or "/"
    directory, _, leaf = text.rpartition("/")
    try:
        fd = open_in_root(root, directory or "/")
    except OSError:
        return Place(os.path.normpath(text))  # the directory is gone: the words are all there is
    try:
        if follow:
            with suppress(OSError):  # a link that leads nowhere is its own place
                return _followed(text, root)
        parent = os.readlink(f"/proc/self/fd/{fd}")
        path, outer = _seen(os.path.join(parent, leaf), root)
        try:
            at = os.fstat(fd)
        except OSError:
            return Place(path, outer=outer)  # of a file system whose server is gone
        folder = at.st_dev, at.st_ino
        reachable = _reachable(parent, root, at)
        try:
            found = os.stat(leaf, dir_fd=fd, follow_symlinks=False)
        except OSError:
            return Place(path, directory=reachable, outer=outer, folder=folder)
        return Place(path, found.st_dev, found.st_ino, reachable, outer, folder)
    finally:
        os.close(fd)


def _followed(text: str, root: str) -> Place:
    fd = open_in_root(root, text, os.O_PATH | os.O_CLOEXEC)
    try:
        path = os.readlink(f"/proc/self/fd/{fd}")
        found = os.fstat(fd)
    finally:
        os.close(fd)
    directory = os.path.dirname(_reachable(path, root, found))
    path, outer = _seen(path, root)
    return Place(path, found.st_dev, found.st_ino, directory, outer)


def _seen(path: str, root: str) -> tuple[str, str]:
    """A path of procfs as a process with this root sees it; and itself, if that is another one."""
    seen = below(path, base_of(root))
    return (path, "") if seen == path else (seen, path)


def below(path: str, base: str) -> str:
    """A path as a process sees it whose root directory is `base`; itself, if it is not in there."""
    return path.removeprefix(base) if path.startswith(base + "/") else path


def outer(path: str, root: str) -> str:
    """The other way round: a path below this root as its mount namespace has it."""
    return base_of(root).rstrip("/") + path


def base_of(root: str) -> str:
    """Where a root directory lies in its mount namespace; `Roots` gives `/` or links of procfs."""
    if root == "/":
        return root
    try:
        return os.readlink(root)
    except OSError:
        return root


def _reachable(path: str, root: str, found: os.stat_result) -> str:
    """Procfs tells a path from the root of its mount namespace: of ours (a chroot), or of another.

    In a chroot of another namespace, only what is below the chroot can be reached.
    """
    ways = () if root == "/" else (root + path, root + _seen(path, root)[0])
    for through in ways:
        with suppress(OSError):
            if os.path.samestat(os.stat(through), found):
                return through
    return path


def _base_text(name: Name) -> str:
    return name.base.text if name.base else "/"


class Mount(msgspec.Struct, frozen=True):
    """A line of a mount table; `root` and `point` are empty where they are `/`."""

    number: int
    above: int
    device: int
    root: str
    point: str


def mounts_of(table: Path, most_bytes: int = -1) -> Iterator[Mount]:
    """All lines of a mount table; OSError, also if it is longer."""
    for line in lines_of(table, most_bytes):
        fields = line.split(" ")
        major, minor = fields[2].split(":")
        root, point = (unescape(field).rstrip("/") for field in fields[3:5])
        device = os.makedev(int(major), int(minor))
        yield Mount(int(fields[0]), int(fields[1]), device, root, point)


def kind_of(pid: int, device: int, most_bytes: int = -1) -> str:
    """Type of a file system that a process has mounted; empty where nothing is known of it."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError):
        for line in lines_of(Path(f"/proc/{pid}/mountinfo"), most_bytes):
            fields, _, kind = line.partition(" - ")
            if fields.split(" ")[2] == number:
                return kind.partition(" ")[0]
    return ""


class HostMounts:
    """Where the host's mount table shows a file of some filesystem: the second spelling of a path."""

    def __init__(self, table: Path = Path("/proc/self/mountinfo")) -> None:
        self.table = table
        self.changes = 0
        """How often the kernel said that it changed."""
        self._file = table.open("rb")
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLERR | select.POLLPRI)
        self._one_at_a_time = threading.Lock()
        self._mounts: dict[int, list[tuple[str, str]]] = {}
        self._read()

    def _read(self) -> None:
        mounts: dict[int, list[tuple[str, str]]] = {}
        for mount in mounts_of(self.table):
            mounts.setdefault(mount.device, []).append((mount.root, mount.point))
        self._mounts = mounts

    def refresh(self) -> None:
        """Read the table again if the kernel says that it changed. Any thread may ask."""
        with self._one_at_a_time:
            if self._poll.poll(0):
                self.changes += 1
                self._read()

    def spellings(self, device: int, within: str) -> Sequence[str]:
        """Every path of the host that leads to `within` on that filesystem."""
        return [
            point + within[len(root) :]
            for root, point in self._mounts.get(device, ())
            if within == root or within.startswith(root + "/")
        ]

    def close(self) -> None:
        """Give the descriptor back."""
        self._file.close()


def unescape(field: str) -> str:
    r"""Mountinfo writes space, tab, newline and backslash as \040 and so on."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field
