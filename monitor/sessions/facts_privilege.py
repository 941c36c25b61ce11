# SPDX-License-Identifier: Apache-2.0
"""What reached beyond a session, as facts; it looks up nothing but whom a number means."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from monitor import events
from monitor.fields import Fact
from monitor.sessions.live import LiveSession
from monitor.sessions.pids import host_pid
from monitor.subjects import Process

# operation -> (what rules call it, which argument is the other process)
_PROCESS_ACCESS = {
    "ptrace": ("ptrace", 1),
    "vm_read": ("process_vm_readv", 0),
    "vm_write": ("process_vm_writev", 0),
}
_PTRACE_TRACEME = 0


MOUNTS = ("mount", "umount", "move_mount", "pivot_root")
"""Operations whose text is a path."""
_TO_DIRECTORY = 2
"""Which argument of move_mount(2) is the directory that its target starts at."""
_AT_FDCWD = -100


def mounted_at(event: events.Privileged, process: Process) -> events.Name:
    """The path of one of `MOUNTS`, as its caller meant it."""
    start = "cwd"
    if event.operation == "move_mount":
        directory = ctypes.c_int32(event.args[_TO_DIRECTORY]).value
        start = "cwd" if directory == _AT_FDCWD else f"fd/{directory}"
    base = process.cwd  # if it ended
    for number in (event.tid, event.tgid):  # the thread that acted may be all that is left, or gone
        with suppress(OSError):
            base = os.readlink(f"/proc/{number}/{start}")
            break
    return events.Name(events.Path(base, base, 0), event.text)


def privileged(
    event: events.Privileged, live: LiveSession, process: Process, path: str = ""
) -> Iterable[Fact]:
    """`path` is where the text of the call leads, for `MOUNTS`."""
    refused = event.result < 0
    if event.operation == "limit":
        whom = event.args[0]
        if os.path.exists(f"/proc/self/task/{whom}"):
            yield _operation(live, process, "monitor_limit", str(whom), refused=refused)
        return
    access = _PROCESS_ACCESS.get(event.operation)
    if access is None:
        at_us = event.operation == "kill" and event.args[0] == os.getpid()
        operation = "monitor_signal" if at_us else event.operation
        detail = path or event.text or str(event.args[0])
        yield _operation(live, process, operation, detail, refused=refused)
        return
    if event.operation == "ptrace" and event.args[0] == _PTRACE_TRACEME:
        return  # a process asks its own parent to trace it
    name, argument = access
    family = [p.pid for p in live.tree]
    target = host_pid(event.args[argument], event.tgid, family)
    fields = {
        **live.tree.fields(process),
        "Operation": name,
        "TargetProcessId": target or event.args[argument],
        "TargetInSession": target in family,
        "Refused": refused,
    }
    yield Fact(category="process_access", fields=fields)


def _cgroup_moved(event: events.CgroupMoved, live: LiveSession, process: Process) -> Iterable[Fact]:
    if not event.inside:
        yield _operation(live, process, "cgroup_move", event.path)


def _signalled(event: events.Signalled, live: LiveSession, process: Process) -> Iterable[Fact]:
    yield _operation(live, process, "monitor_signal", str(event.signal))


def _operation(
    live: LiveSession, process: Process, operation: str, detail: str, *, refused: bool = False
) -> Fact:
    own = {"Operation": operation, "Detail": detail, "Refused": refused}
    return Fact(category="privileged_operation", fields={**live.tree.fields(process), **own})


MAKERS: dict[type, Callable[[Any, LiveSession, Process], Iterable[Fact]]] = {
    events.CgroupMoved: _cgroup_moved,
    events.Signalled: _signalled,
}
