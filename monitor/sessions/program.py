# SPDX-License-Identifier: Apache-2.0
"""What an agent consists of on disk, and whether another file is a copy of it; reads only.

An agent's own files are the program it was started with and, where that is part of a package or a
home was named, the files there. System programs and the libraries it shares with everybody are not
its own: a new virtual environment must not look like a self-copy.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path

from monitor.sessions.latest import Latest
from monitor.sessions.looks import Allowance
from monitor.sessions.process_tree import is_interpreter

_SYSTEM = ("/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/", "/snap/", "/nix/", "/gnu/")
_PACKAGE_MARKS = ("package.json", "pyproject.toml", "setup.py", "Cargo.toml", "go.mod")
_SHARED_DIRECTORIES = {
    "node_modules", "site-packages", "dist-packages", ".git", "__pycache__", ".cache", ".venv",
    "venv", "tmp", "logs",
}  # fmt: skip
_MAX_FILES = 5_000
_MAX_COMPARED = 2 * _MAX_FILES
_MAX_BYTES = 256 * 1024 * 1024
_MIN_BYTES = 48  # an empty __init__.py is nobody's own
_PACKAGE_DEPTH = 4
_USER_HOME_DEPTH = 3  # `/`, `home`, `ann`
_MAX_NAMED_BYTES = 64 * 1024
_CHUNK_BYTES = 256 * 1024
_LEAST_BYTES = 64 * 1024
"""Of an allowance, for a comparison that ends sooner: to open two files takes as long."""
_AT_ONCE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_State = tuple[int, int, int, int, int]
"""Of a file, by which it is known whether it was changed."""


class AgentProgram:
    """The agent's own files, by size first: most files that are asked about have no such size."""

    def __init__(self, entries: Sequence[str], homes: Sequence[str]) -> None:
        self.entries = tuple(entries)
        self.homes = tuple(homes)
        # A home such as /root stands in too many files to mean anything.
        deep = [home for home in homes if len(Path(home).parts) > _USER_HOME_DEPTH]
        self._spellings = tuple(os.fsencode(path) for path in (*entries, *deep))
        self._by_size: dict[int, list[str]] = {}
        self._inodes: set[tuple[int, int]] = set()
        self._equal: Latest[tuple[_State, _State], int] = Latest(_MAX_COMPARED)
        """How many of their first bytes two files have in common, as far as they were compared."""
        for path in self._walk():
            self._add(path)

    def _walk(self) -> Iterator[str]:
        yield from self.entries
        left = _MAX_FILES
        for home in self.homes:
            for directory, subdirectories, names in os.walk(home):
                subdirectories[:] = [d for d in subdirectories if d not in _SHARED_DIRECTORIES]
                for name in names[:left]:
                    yield os.path.join(directory, name)
                left -= len(names)
                if left <= 0:
                    return

    def _add(self, path: str) -> None:
        try:
            found = os.stat(path, follow_symlinks=False)
        except OSError:
            return
        if stat.S_ISREG(found.st_mode) and _MIN_BYTES <= found.st_size <= _MAX_BYTES:
            self._by_size.setdefault(found.st_size, []).append(path)
            self._inodes.add((found.st_dev, found.st_ino))

    def owns(self, path: str) -> bool:
        """Is this path the program itself, or inside its home?"""
        return path in self.entries or any(path.startswith(home + "/") for home in self.homes)

    def named_by(self, arguments: Sequence[str], cwd: str) -> bool:
        """Does an argument name the program or its home (also in `key=PATH`, `@PATH`, `host:/PATH`)?

        In its home any word would be a path of it: one that is not absolute must be there.
        """
        words = (word for argument in arguments for word in _words(argument) if word)
        return any(self._is_named(word, cwd) for word in words)

    def _is_named(self, word: str, cwd: str) -> bool:
        path = os.path.normpath(os.path.join(cwd, word))
        ours = path in self.homes or self.owns(path)
        return ours and (word.startswith("/") or os.path.lexists(path))

    def named_in(self, path: str) -> bool:
        """Does a small file hold the path of the program or its home, as a cron line would?"""
        if not self._spellings:
            return False
        try:
            with _opened(path) as file:
                content = file.read(_MAX_NAMED_BYTES + 1) or b""  # None: it has nothing just now
        except OSError:
            return False
        return len(content) <= _MAX_NAMED_BYTES and any(s in content for s in self._spellings)

    def is_copy(
        self, path: str, shown: str = "", allowance: Allowance | None = None
    ) -> bool | None:
        """Is the content at `path` that of one of the agent's own files, at another place?

        `shown` is the agent's word for the same path, where that differs. None where the `allowance`
        was used up before it was known: asked again, it goes on where it had come to.
        """
        if not self._by_size:
            return False
        try:
            found = os.stat(path)
        except OSError:
            return False
        if found.st_size not in self._by_size or not stat.S_ISREG(found.st_mode):
            return False
        if (found.st_dev, found.st_ino) in self._inodes:
            return not self.owns(shown or path)  # one more name of it, or it was moved there
        answer: bool | None = False
        for own in self._by_size[found.st_size]:
            equal = self._equals(path, own, allowance)
            if equal:
                return True
            if equal is None:
                answer = None
        return answer

    def _equals(self, path: str, own: str, allowance: Allowance | None) -> bool | None:
        """Byte by byte, which takes a quarter of a digest's time and mostly ends with the first bytes."""
        try:
            with _opened(path) as file, _opened(own) as ours:
                found, mine = os.fstat(file.fileno()), os.fstat(ours.fileno())
                size_bytes = found.st_size
                if size_bytes != mine.st_size or size_bytes not in self._by_size:
                    return False  # it became another size between the two looks, maybe a terabyte
                pair = (_state(found), _state(mine))
                at = self._equal.get(pair, 0)
                file.seek(at)
                ours.seek(at)
                equal: bool | None = True
                while equal and at < size_bytes:
                    # No more than its size: its end may move on as fast as we come to it.
                    wanted = min(size_bytes - at, _CHUNK_BYTES)
                    if allowance is not None and not allowance.take(max(wanted, _LEAST_BYTES)):
                        equal = None
                    elif (chunk := file.read(wanted)) != ours.read(wanted) or not chunk:
                        equal = False
                    else:
                        at += len(chunk)
                # Where they differ is looked at again: memory that is mapped changes without a new time.
                self._equal[pair] = at
                return equal
        except OSError:
            return False  # it went away between the two looks: not a copy that could run


def _state(found: os.stat_result) -> _State:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _opened(path: str) -> BufferedReader:
    """A regular file, to be read; OSError for whatever else lies there, and where one had to wait.

    Agents choose what that is, and every other session waits with us: a FIFO opens once somebody
    writes to it, a terminal's line is its user's, and some devices act on being opened. Of a file with
    a write lease the kernel now wants the lease back. Until it is given back nobody can read the file,
    and whoever keeps it past the last look of `settle.py` is seen as little as who writes only then.
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise OSError(errno.EINVAL, "no regular file", path)
        # Not by the path again, which may lead to something else by now.
        return os.fdopen(os.open(f"/proc/self/fd/{place}", _AT_ONCE), "rb")
    finally:
        os.close(place)


def _words(argument: str) -> Iterator[str]:
    """What in an argument may be a path: all of it, a value, and whatever starts at the first `/`."""
    yield argument
    yield argument.lstrip("@<")
    yield argument.rpartition("=")[2].lstrip("@<")
    yield argument[max(argument.find("/"), 0) :]


def find_program(argv: Sequence[str], cwd: str, home: str = "") -> AgentProgram:
    """The agent's own files from its command line; `home` adds a directory the user named."""
    entries: list[str] = []
    homes = [os.path.realpath(home)] if home else []
    for word in argv[:4]:  # the program, or an interpreter, its options and the script
        path = _executable(word, cwd) if word is argv[0] else os.path.join(cwd, word)
        real = os.path.realpath(path)
        if not Path(real).is_file() or (word is argv[0] and _shared(real)):
            continue
        entries.append(real)
        package = _package_of(real)
        if package:
            homes.append(package)
        break
    return AgentProgram(entries, homes)


def _shared(program: str) -> bool:
    """Everybody's program: the system's, or an interpreter that a user installed (pyenv, nvm)."""
    return program.startswith(_SYSTEM) or is_interpreter(program)


def _executable(word: str, cwd: str) -> str:
    if "/" in word:
        return os.path.join(cwd, word)
    for directory in os.get_exec_path():
        candidate = os.path.join(directory, word)
        if os.access(candidate, os.X_OK):
            return candidate
    return os.path.join(cwd, word)


def _package_of(path: str) -> str:
    """The nearest directory above that is marked as a package, unless it is a home or a root."""
    directory = Path(path).parent
    for _ in range(_PACKAGE_DEPTH):
        if len(directory.parts) <= 2 or directory == Path.home():  # noqa: PLR2004 - `/` and `/tmp`
            return ""
        if any((directory / mark).exists() for mark in _PACKAGE_MARKS):
            return str(directory)
        directory = directory.parent
    return ""
