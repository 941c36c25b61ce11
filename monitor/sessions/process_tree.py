# SPDX-License-Identifier: Apache-2.0
"""The processes of one session, kept from fork, exec and exit events.

/proc is asked only where an event speaks of a process that nobody announced.
"""

from __future__ import annotations

import os
import pwd
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from monitor import events
from monitor.procfs import acting, stat_of
from monitor.sessions.taint import Labels, Taint, at_other_ends
from monitor.subjects import Labelled, Process
from monitor.text import decode

_MAX_ANCESTORS = 16
"""A chain of processes that each fork and exit would otherwise be kept for ever."""
_INTERPRETERS = frozenset(
    {"python", "node", "bun", "deno", "bash", "sh", "dash", "zsh", "perl", "ruby", "php", "lua"}
)
_MANY_IN_ONE = frozenset({"busybox", "toybox", "coreutils"})
_VALUE_FOLLOWS = frozenset({"--require", "--import", "--loader", "--env-file", "--rcfile"})
_SHORT_FLAGS = frozenset({"-u", "-B", "-I", "-E", "-s", "-S", "-O", "-OO", "-P"})
"""Options of Python that stand alone. Others may be followed by a value, or by code (`-lc`)."""
_CODE_FOLLOWS = frozenset({"--eval", "--print", "--test"})
_DOWNLOADERS = frozenset(
    {
        *(
            "curl",
            "wget",
            "wget2",
            "aria2c",
            "axel",
            "fetch",
            "lwp-download",
            "http",
            "https",
            "xh",
        ),
        *("lftp", "scp", "sftp", "nc", "ncat", "socat"),
    }
)
_SHOWN_AFTER_EXIT = 100
_KEPT_AFTER_EXIT = 4096
"""Exits come by the ring of alarms and may overtake the last opens of the same process."""


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """Login name of a uid, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class ProcessTree:
    """pid -> Process, and the rule fields that only change when a process runs another program."""

    def __init__(
        self,
        session_id: str,
        *,
        root_pid: int = 0,
        interactive: bool = False,
        is_own: Callable[[str], bool] = lambda _path: False,
        proc: Path = Path("/proc"),
    ) -> None:
        """`is_own`: is this a file of the agent's own program?"""
        self._session_id = session_id
        self._root_pid = root_pid
        self._interactive = interactive
        self._is_own = is_own
        self._taint = Taint()
        self._proc = proc
        self._living: dict[int, Process] = {}
        self._gone: OrderedDict[int, Process] = OrderedDict()
        self._fields: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._living)

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._living.values()))

    def family(self) -> list[Process]:
        """Those that live, after those that ended last; may be called from any thread."""
        gone = list(self._gone.values())[-_SHOWN_AFTER_EXIT:]
        return gone + list(self._living.values())

    def get(self, pid: int, uid: int = 0) -> Process:
        """The process, looked up in /proc (and remembered) if it was never announced."""
        known = self._living.get(pid) or self._gone.get(pid)
        if known is None:
            known = self.add(read_process(pid, uid=uid, proc=self._proc))
        return known

    def sender(self, pid: int, root_pid: int) -> Process:
        """Who sent a packet: it may leave in the name of whoever happens to run just then."""
        return self._living.get(pid) or self._gone.get(pid) or self.get(root_pid)

    def add(self, process: Process) -> Process:
        """Remember a process under its pid; whoever had the pid before is gone."""
        if process.parent is None and process.parent_pid in self._living:
            process = replace(process, parent=_shortened(self._living[process.parent_pid]))
        self._gone.pop(process.pid, None)
        self._living[process.pid] = process
        self._fields.pop(process.pid, None)
        return process

    def fork(self, event: events.Forked) -> Process:
        """The child is what its parent was, until it runs something else."""
        parent = self.get(event.tgid, event.uid)
        self._taint.forget(event.child)
        self._taint.give(event.child, self._taint.of(event.tgid))
        return self.add(
            replace(
                parent,
                pid=event.child,
                parent=_shortened(parent),
                parent_pid=parent.pid,
                started_ns=event.child_started_ns,
                uid=event.uid,
            )
        )

    def exec(self, event: events.Executed, lies_at: str = "") -> Process:
        """The process runs another program; `lies_at` as in `Process`."""
        before = self._living.get(event.tgid)
        return self.add(
            Process(
                pid=event.tgid,
                parent=before.parent if before else None,
                parent_pid=before.parent_pid if before else event.parent,
                started_ns=event.started_ns,
                uid=event.uid,
                image=event.image.path.text,
                lies_at=lies_at,
                script=event.script or _script_argument(event.image.path.text, event.argv),
                argv=event.argv,
                argv_truncated=event.argv_truncated,
                cwd=event.cwd.text,
            )
        )

    def exit(self, pid: int) -> None:
        """The process ended; it stays known until enough others have ended after it."""
        process = self._living.pop(pid, None)
        if process is None:
            return
        self._gone[pid] = process
        while len(self._gone) > _KEPT_AFTER_EXIT:
            old, _ = self._gone.popitem(last=False)
            if old not in self._living:
                self._fields.pop(old, None)
                self._taint.forget(old)

    def taint(self, pid: int, labels: Labels) -> None:
        """The process has these labels now, and so has who is connected to it by a pipe."""
        new = [pid]
        while new:
            one = new.pop()
            if self._taint.give(one, labels):
                self._fields.pop(one, None)
                new += at_other_ends(one, self._living)

    @property
    def taint_changes(self) -> int:
        """Moves on whenever something has another label than before."""
        return self._taint.changes

    def labelled(self) -> Labelled:
        """What has touched a secret, for the next monitor."""
        return self._taint.labelled()

    def recall(self, labelled: Labelled) -> None:
        """What an earlier monitor knew of it."""
        self._taint.recall(labelled, self._living)
        self._fields.clear()

    def opened(self, pid: int, file: tuple[int, int], *, read: bool, write: bool) -> None:
        """Labels flow from a file to who reads it, and from who writes it to the file."""
        if read and (labels := self._taint.of_file(file)):
            self.taint(pid, labels)
        if write:
            self._taint.wrote(pid, file)

    def fields(self, process: Process) -> dict[str, Any]:
        """The fields of `fields._PROCESS`, built once for each program a process runs."""
        known = self._fields.get(process.pid)
        if known is None:
            known = self._fields[process.pid] = self._build(process)
        return known

    def other_names(self, process: Process) -> dict[str, Any]:
        """Those of the fields that programs are named in, by where they lie; none if that is the same."""
        if not (process.lies_at or any(ancestor.lies_at for ancestor in _ancestors(process))):
            return {}
        names: dict[str, Any] = {"Image": _where(process)}
        if process.parent is not None:
            names["ParentImage"] = _where(process.parent)
        if self.fields(process)["ParentImages"]:
            names["ParentImages"] = [_where(ancestor) for ancestor in _ancestors(process)]
        return names

    def _build(self, process: Process) -> dict[str, Any]:
        fields = {
            "Image": process.image,
            "CommandLine": " ".join(process.argv),
            "CurrentDirectory": process.cwd,
            "ProcessId": process.pid,
            "ParentProcessId": process.parent_pid,
            "User": user_name(process.uid),
            "AgentSession": self._session_id,
            "Interactive": self._interactive,
            "ParentImages": self._parent_images(process),
            "Tainted": sorted(self._taint.of(process.pid)),
        }
        if process.script:
            fields["Script"] = process.script
        if process.parent is not None:
            fields["ParentImage"] = process.parent.image
            fields["ParentCommandLine"] = " ".join(process.parent.argv)
        return fields

    def _parent_images(self, process: Process) -> list[str]:
        """None for the agent itself: the first process, and what it started of its own program.

        Agents start themselves anew, with other options or as a worker, and are no command of theirs.
        """
        own = process
        while own.parent is not None and self._same_program(own, own.parent):
            own = own.parent
        if own.pid == self._root_pid:
            return []
        return [ancestor.image for ancestor in _ancestors(process)]

    def _same_program(self, child: Process, parent: Process) -> bool:
        """An interpreter, or a program that is many, is only the same with a script of the agent's."""
        if (child.image, child.lies_at) != (parent.image, parent.lies_at):
            return False
        if is_interpreter(child.image) or child.image.rpartition("/")[2] in _MANY_IN_ONE:
            script, started = (os.path.join(p.cwd, p.script) for p in (child, parent))
            return bool(child.script) and (script == started or self._is_own(script))
        return True


def _where(process: Process) -> str:
    return process.lies_at or process.image


def _ancestors(process: Process) -> Iterator[Process]:
    """Nearest first."""
    link = process.parent
    while link is not None:
        yield link
        link = link.parent


def has_terminal(pid: int) -> bool:
    """Has the process a controlling terminal? False for one that is gone."""
    fields = stat_of(pid)
    return bool(fields) and fields[4] != "0"  # tty_nr


def is_interpreter(image: str) -> bool:
    """Does this program do what a script says? Known by its name, with or without a version."""
    return image.rpartition("/")[2].rstrip("0123456789.") in _INTERPRETERS


def is_downloader(image: str) -> bool:
    """Does this program do nothing but fetch files? Known by its name."""
    return image.rpartition("/")[2] in _DOWNLOADERS


def _script_argument(image: str, argv: tuple[str, ...]) -> str:
    """What an interpreter was told to run; empty for code among the arguments, and other programs."""
    if not is_interpreter(image):
        return ""
    words = iter(argv[1:])
    for word in words:
        name = word.partition("=")[0]
        if not word.startswith("-"):
            return word
        if word in _VALUE_FOLLOWS:
            next(words, "")
        elif name in _CODE_FOLLOWS or not (word in _SHORT_FLAGS or word.startswith("--")):
            return ""
    return ""


def _shortened(process: Process, depth: int = _MAX_ANCESTORS) -> Process:
    """The process with at most `depth` ancestors."""
    chain: list[Process] = []
    link: Process | None = process
    while link is not None and len(chain) <= depth:
        chain.append(link)
        link = link.parent
    if link is None:
        return process
    shortened = replace(chain[-1], parent=None)
    for ancestor in reversed(chain[:-1]):
        shortened = replace(ancestor, parent=shortened)
    return shortened


def home_of(pid: int, proc: Path = Path("/proc")) -> str:
    """HOME in the environment a process was started with, resolved; empty if there is none."""
    try:
        environ = (proc / str(acting(pid, proc)) / "environ").read_bytes()
    except OSError:
        return ""
    for pair in environ.split(b"\0"):
        if pair.startswith(b"HOME=/"):
            return os.path.realpath(decode(pair[5:])).rstrip("/")
    return ""


def read_process(pid: int, *, uid: int = 0, proc: Path = Path("/proc")) -> Process:
    """What /proc still says of a process; only its pid where it is gone already."""
    base = proc / str(acting(pid, proc))
    image = cwd = ""
    argv: tuple[str, ...] = ()
    parent = 0
    with suppress(OSError, IndexError, ValueError):  # it ends while we read: what was read stands
        argv = tuple(
            decode(arg) for arg in (base / "cmdline").read_bytes().removesuffix(b"\0").split(b"\0")
        )
        parent = int(stat_of(pid, proc)[1])
        image = os.readlink(base / "exe")
        cwd = os.readlink(base / "cwd")
    script = _script_argument(image, argv)
    return Process(
        pid=pid, parent_pid=parent, uid=uid, image=image, script=script, argv=argv, cwd=cwd
    )
