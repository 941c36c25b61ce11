# SPDX-License-Identifier: Apache-2.0
"""An agent with a child, and all the facts of what the child can do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from happenings import CHILD, ROOT, happenings

from monitor import events
from monitor.events import Access, Event
from monitor.fields import Fact
from monitor.sessions.facts import FactMaker
from monitor.sessions.live import LiveSession
from monitor.sessions.places import HostMounts, Roots
from monitor.sessions.process_tree import ProcessTree
from monitor.sessions.program import find_program
from monitor.sessions.settle import Settled, Written
from monitor.sessions.watched import WatchedPaths
from monitor.subjects import Mode, Origin, Process


@pytest.fixture
def here(tmp_path) -> Path:
    here = tmp_path.resolve()
    (here / "agent.py").write_text("# an agent: this is all there is of it, and it is enough\n")
    (here / "copy.py").write_text((here / "agent.py").read_text())
    (here / "hosts").write_text("127.0.0.1 localhost\n")
    (here / "unit.py").write_text("# somebody else's\n")
    (here / "other-name").hardlink_to(here / "hosts")
    (here / "points").symlink_to(here / "agent.py")
    return here


@pytest.fixture
def live(here) -> LiveSession:
    """A script under its user's own interpreter, and a child; it wrote a copy of itself and hosts."""
    live = LiveSession(
        id="s-1",
        slot=1,
        name="agent",
        mode=Mode.ENFORCE,
        origin=Origin.LAUNCHED,
        cgroup=here,
        root_pid=ROOT,
        uid=0,
        history_events=1,
    )
    live.tree = ProcessTree(live.id, interactive=True)
    script = str(here / "agent.py")
    interpreter = here / "bin" / "python3.12"
    interpreter.parent.mkdir()
    shutil.copy("/bin/true", interpreter)
    argv = (str(interpreter), script)
    live.program = find_program(argv, str(here))
    agent = Process(
        pid=ROOT, parent_pid=1, image="/usr/bin/python3", script=script, argv=argv, cwd=str(here)
    )
    live.tree.add(agent)
    live.tree.add(
        Process(
            pid=CHILD,
            uid=65534,
            parent=agent,
            parent_pid=ROOT,
            image="/usr/bin/bash",
            script=script,
            argv=("bash", script),
            cwd=str(here),
        )
    )
    live.tree.taint(CHILD, frozenset({"credential"}))
    for name in ("copy.py", "hosts"):
        found = (here / name).stat()
        live.written.add(found.st_dev, found.st_ino)
        live.downloaded.add(found.st_dev, found.st_ino)
    return live


@pytest.fixture
def maker(here) -> Iterator[FactMaker]:
    mounts = HostMounts()
    watched = WatchedPaths([str(here / "hosts")])
    watched.read("/")
    yield FactMaker(watched, mounts, Roots())
    mounts.close()


@pytest.fixture
def facts(maker, live, here) -> dict[type[Event], list[Fact]]:
    """The facts of everything that happens, by the kind of event."""
    found: dict[type[Event], list[Fact]] = {kind: [] for kind in events.KINDS}
    for event in happenings(here):
        process = live.tree.get(event.tgid)
        found[type(event)] += maker.facts(event, live, process)
        if isinstance(event, events.Opened) and event.access & Access.WRITE:
            key = (event.file.path.device, event.file.inode)
            path = event.file.path.text
            for copy in (True, False):
                rest = Settled(Written(path, path, key), live, process, copy=copy)
                found[type(event)] += maker.settled(rest)
    return found
