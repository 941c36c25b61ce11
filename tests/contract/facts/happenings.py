# SPDX-License-Identifier: Apache-2.0
"""What can happen, as the kernel would tell of it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from monitor import events
from monitor.capture import wire
from monitor.events import Access, Event, Name
from monitor.fields import Fact
from monitor.sessions.places import view_of

ROOT, CHILD, OUTSIDER = 2**22 + 1, 2**22 + 2, 2**22 + 3  # pids that no kernel gives


def happenings(here: Path) -> Iterable[Event]:
    """Each kind of event, in the ways that fill what it can fill."""

    def name(leaf: str) -> Name:
        return Name(None, str(here / leaf))

    own = file_of(here / "agent.py")
    net = {"address": "169.254.169.254", "port": 443}
    yield event_of(events.Forked, child=CHILD, child_started_ns=1)
    for image, argument in ((file_of(here / "copy.py", links=0), "agent.py"), (own, "copy.py")):
        yield ran(image, ("x", argument), cwd=str(here))
    environ = {"LD_PRELOAD": str(here / "none.so")}
    with subprocess.Popen(["sleep", "60"], env=environ, stderr=subprocess.DEVNULL) as process:
        yield ran(own, ("sleep", "60"), process.pid)
        process.kill()
    yield event_of(events.Exited, code=3 << 8)
    for opened in (own, file_of(here / "copy.py"), file_of(here / "other-name")):
        for access in (Access.READ, Access.WRITE, Access.WRITE | Access.CREATED):
            yield event_of(events.Opened, file=opened, access=access, repeats=0)
    (here / "unit").write_text(f"ExecStart={here}/agent.py\n")
    for leaf in ("copy.py", "agent.py", "unit"):
        yield event_of(events.Renamed, source=name("before"), target=name(leaf))
        yield event_of(events.Linked, source=name("before"), target=name(leaf))
        yield event_of(events.Unlinked, target=name(leaf))
    yield event_of(events.Symlinked, text=str(here / "agent.py"), target=name("points"))
    yield event_of(events.Truncated, target=name("hosts"), size=0)
    yield event_of(events.ModeChanged, target=name("copy.py"), mode=0o4755)
    yield event_of(events.Connected, **net, protocol="tcp", cookie=1, datagram=False)
    yield event_of(
        events.Connected, **net, protocol="tcp", cookie=1, datagram=False, to_monitor=True
    )
    yield event_of(events.UnixConnected, name="/run/docker.sock", listener=1)
    yield event_of(events.NameAsked, **net, name="example.org", protocol="udp")
    yield event_of(events.ServerNamed, **net, name="example.org")
    yield event_of(events.CgroupMoved, target=CHILD, path="/", inside=False)
    for operation in wire.Operation:
        for target in (CHILD, OUTSIDER, os.getpid()):
            yield event_of(
                events.Privileged,
                operation=operation.name.lower(),
                text="/mnt",
                args=(target, target, 0, 0),
                result=-errno.EPERM if target == OUTSIDER else 0,
            )
    yield event_of(events.Signalled, signal=signal.SIGKILL)


def event_of(kind: type[Event], **own: Any) -> Event:
    """An event of the child."""
    common = {"ktime_ns": 1, "egress_bytes": 9, "slot": 1, "tgid": CHILD, "tid": CHILD, "uid": 0}
    return kind(**common, view=view_of(os.getpid()), cut=False, **own)


def ran(
    image: events.File, argv: tuple[str, ...], pid: int = CHILD, cwd: str = "/"
) -> events.Executed:
    """A process that runs a program."""
    event = event_of(
        events.Executed,
        image=image,
        cwd=events.Path(cwd, cwd, 0),
        script="",
        argv=argv,
        argv_truncated=False,
        started_ns=1,
        parent=ROOT,
    )
    return msgspec.structs.replace(event, tgid=pid)


def file_of(path: Path, *, links: int = 1) -> events.File:
    """A file as the kernel would tell of it."""
    found, text = path.stat(), str(path)
    return events.File(events.Path(text, text, found.st_dev), found.st_ino, 0, found.st_mode, links)


def every(facts: dict[type[Event], list[Fact]]) -> list[Fact]:
    return [fact for made in facts.values() for fact in made]
