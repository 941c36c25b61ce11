# SPDX-License-Identifier: Apache-2.0
"""What rules are told exists (`monitor/fields.py`) is what they get, for every kind of event."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitor import events
from monitor.capture import wire
from monitor.events import Access, Event, Name
from monitor.fields import CATEGORIES, Fact
from monitor.sessions.disguise import MountTable
from monitor.sessions.facts import FactMaker
from monitor.sessions.live import LiveSession
from monitor.sessions.places import HostMounts, Roots, view_of
from monitor.sessions.process_tree import ProcessTree, read_process
from monitor.sessions.program import find_program
from monitor.sessions.settle import Settled, Written
from monitor.sessions.watched import WatchedPaths
from monitor.subjects import Mode, Origin, Process

README = Path(__file__).parents[2] / "rules" / "README.md"
ROOT, CHILD, OUTSIDER = 2**22 + 1, 2**22 + 2, 2**22 + 3  # pids that no kernel gives
SILENT = {events.Forked}  # no rule speaks of a fork: what the child does comes by itself
# The file is gone when somebody looks: that it has no inode and no content is all there is to say.
NEVER = {("file_delete", field) for field in ("Device", "Inode", "WrittenBySession", "SelfCopy")}
NEVER |= {("dns_query", "DestinationHostname")}  # who is asked has an address only


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


def happenings(here: Path) -> Iterable[Event]:
    """Each kind of event, in the ways that fill what it can fill."""

    def name(leaf: str) -> Name:
        return Name(None, str(here / leaf))

    own = file_of(here / "agent.py")
    net = {"address": "169.254.169.254", "port": 443}
    yield _event(events.Forked, child=CHILD, child_started_ns=1)
    for image, argument in ((file_of(here / "copy.py", links=0), "agent.py"), (own, "copy.py")):
        yield ran(image, ("x", argument), cwd=str(here))
    environ = {"LD_PRELOAD": str(here / "none.so")}
    with subprocess.Popen(["sleep", "60"], env=environ, stderr=subprocess.DEVNULL) as process:
        yield ran(own, ("sleep", "60"), process.pid)
        process.kill()
    yield _event(events.Exited, code=3 << 8)
    for opened in (own, file_of(here / "copy.py"), file_of(here / "other-name")):
        for access in (Access.READ, Access.WRITE, Access.WRITE | Access.CREATED):
            yield _event(events.Opened, file=opened, access=access, repeats=0)
    (here / "unit").write_text(f"ExecStart={here}/agent.py\n")
    for leaf in ("copy.py", "agent.py", "unit"):
        yield _event(events.Renamed, source=name("before"), target=name(leaf))
        yield _event(events.Linked, source=name("before"), target=name(leaf))
        yield _event(events.Unlinked, target=name(leaf))
    yield _event(events.Symlinked, text=str(here / "agent.py"), target=name("points"))
    yield _event(events.Truncated, target=name("hosts"), size=0)
    yield _event(events.ModeChanged, target=name("copy.py"), mode=0o4755)
    yield _event(events.Connected, **net, protocol="tcp", cookie=1, datagram=False)
    yield _event(events.Connected, **net, protocol="tcp", cookie=1, datagram=False, to_monitor=True)
    yield _event(events.UnixConnected, name="/run/docker.sock", listener=1)
    yield _event(events.NameAsked, **net, name="example.org", protocol="udp")
    yield _event(events.ServerNamed, **net, name="example.org")
    yield _event(events.CgroupMoved, target=CHILD, path="/", inside=False)
    for operation in wire.Operation:
        for target in (CHILD, OUTSIDER, os.getpid()):
            yield _event(
                events.Privileged,
                operation=operation.name.lower(),
                text="/mnt",
                args=(target, target, 0, 0),
                result=-errno.EPERM if target == OUTSIDER else 0,
            )
    yield _event(events.Signalled, signal=signal.SIGKILL)


def _event(kind: type[Event], **own: Any) -> Event:
    """An event of the child."""
    common = {"ktime_ns": 1, "egress_bytes": 9, "slot": 1, "tgid": CHILD, "tid": CHILD, "uid": 0}
    return kind(**common, view=view_of(os.getpid()), cut=False, **own)


def ran(
    image: events.File, argv: tuple[str, ...], pid: int = CHILD, cwd: str = "/"
) -> events.Executed:
    """A process that runs a program."""
    event = _event(
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


@pytest.mark.parametrize("kind", events.KINDS, ids=lambda kind: kind.__name__)
def test_an_event_becomes_facts_of_known_categories_with_known_fields(facts, kind):
    assert bool(facts[kind]) == (kind not in SILENT)
    for fact in facts[kind]:
        assert fact.category in CATEGORIES
        assert fact.fields.keys() <= CATEGORIES[fact.category].keys(), fact.category


def every(facts: dict[type[Event], list[Fact]]) -> list[Fact]:
    return [fact for made in facts.values() for fact in made]


def test_every_category_comes_from_some_event(facts):
    assert {fact.category for fact in every(facts)} == CATEGORIES.keys()


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_field_of_a_category_is_filled_by_some_event(facts, category):
    fields = [fact.fields for fact in every(facts) if fact.category == category]
    filled = {name for known in fields for name, value in known.items() if says_something(value)}
    never = {name for where, name in NEVER if where == category}
    assert filled == CATEGORIES[category].keys() - never


def says_something(value: object) -> bool:
    return bool(value) and value != "0:0"


def operations(facts: dict[type[Event], list[Fact]], category: str) -> set[str]:
    return {fact.fields["Operation"] for fact in every(facts) if fact.category == category}


@pytest.mark.parametrize("category", ["file_event", "process_access"])
def test_the_operations_that_the_table_names_are_those_that_come(facts, category):
    named = set(re.findall(r"`(\w+)`", CATEGORIES[category]["Operation"]))
    assert operations(facts, category) == named


def test_the_privileged_operations_that_the_readme_names_are_those_that_come(facts):
    table = README.read_text().partition("### Privileged operations\n")[2].partition("\n## ")[0]
    named = {row.split("|")[1].strip(" `") for row in table.splitlines() if row.startswith("| `")}
    assert operations(facts, "privileged_operation") == named


@pytest.mark.parametrize("made", ["file", "symlink"])
def test_a_new_file_is_not_taken_for_the_one_whose_inode_it_got(here, live, made):
    watched = WatchedPaths([str(here / "hosts")])
    mounts = HostMounts()
    maker = FactMaker(watched, mounts, Roots())
    watched.read("/")
    assert watched.aliases("/", (here / "hosts").stat().st_dev, (here / "hosts").stat().st_ino)
    # Somebody outside replaces the hosts file; then the agent makes one that gets its inode.
    (here / "hosts").rename(here / "new")
    (here / "hosts").write_text("another inode\n")
    found = (here / "new").stat()
    path = events.Path(str(here / "new"), str(here / "new"), found.st_dev)
    happened = {
        "file": _event(
            events.Opened,
            file=events.File(path, found.st_ino, 0, found.st_mode, 1),
            access=Access.WRITE | Access.CREATED,
            repeats=0,
        ),
        "symlink": _event(events.Symlinked, text="/x", target=Name(None, str(here / "new"))),
    }
    facts = maker.facts(happened[made], live, live.tree.get(CHILD))
    mounts.close()
    assert {fact.fields["TargetFilename"] for fact in facts} == {str(here / "new")}


def test_a_file_that_a_rule_names_is_known_by_its_other_name_too(facts, here):
    known = [fact.fields["TargetFilename"] for fact in facts[events.Opened]]
    assert {str(here / "other-name"), str(here / "hosts")} <= set(known)


@pytest.mark.parametrize(
    "event",
    [
        _event(
            events.Connected,
            address="192.0.2.1",
            port=443,
            protocol="tcp",
            cookie=1,
            datagram=False,
        ),
        _event(events.NameAsked, address="192.0.2.1", port=53, protocol="udp", name="example.org"),
        ran(events.File(events.Path("/bin/true", "/bin/true", 1), 2, 0, 0o755, 1), ("true",)),
    ],
    ids=lambda event: type(event).__name__,
)
def test_only_the_first_of_its_kind_is_seen_first(maker, live, event):
    process = live.tree.get(event.tgid)
    (first,) = maker.facts(event, live, process)
    live.seen.add(first)
    (again,) = maker.facts(event, live, process)
    assert (first.fields["FirstSeen"], again.fields["FirstSeen"]) == (True, False)


def test_what_only_looks_like_a_program_is_told_by_both_names(maker, live, here):
    live.tree.exec(ran(file_of(here / "unit.py"), ("ssh",)), lies_at="/tmp/e")
    event = _event(events.Opened, file=file_of(here / "hosts"), access=Access.READ, repeats=0)
    told = maker.facts(event, live, live.tree.get(CHILD))
    named = {(f.fields["TargetFilename"], f.fields["Image"]) for f in told}
    images = {str(here / "unit.py"), "/tmp/e"}
    assert named == {(str(here / "hosts"), image) for image in images}


@pytest.mark.kernel
def test_a_monitor_that_starts_over_it_knows_what_only_looks_like_a_program(maker, live, here):
    shutil.copy("/bin/sh", here / "e")
    (here / "ssh").touch()
    script = f"mount --bind {here}/e {here}/ssh && exec {here}/ssh -c 'echo; read line'"
    words = ("unshare", "-m", "sh", "-c", script)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        live.root_pid = os.getpid()
        live.tree.add(read_process(process.pid))
        maker.look_around(live)
        running = live.tree.get(process.pid)
        process.communicate(b"\n")
    assert (running.image, running.lies_at) == (str(here / "ssh"), str(here / "e"))
    assert live.tree.other_names(live.tree.get(ROOT)) == {}


@pytest.mark.kernel
def test_what_only_a_root_directory_of_its_own_has_is_told_by_the_program_as_it_sees_it(
    maker, live, here
):
    """A container's passwd, and the container's shadow; and the host's, which it sees as well."""
    live.mounts = MountTable.of(os.getpid())
    hosts, away = str(here / "hosts"), str(here / "away")
    Path(away).mkdir()
    script = f"mount -t tmpfs none {away} && touch {away}/shadow && echo && read line"
    words = ("unshare", "-m", "sh", "-c", script)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        child = live.tree.exec(ran(file_of(here / "unit.py"), ("x",), process.pid), lies_at="/e")
        view = view_of(process.pid)
        happened = {}
        for path in (hosts, f"{away}/shadow"):
            device = os.stat(f"/proc/{process.pid}/root{path}").st_dev
            within = MountTable.of(process.pid).file(path)[1]
            file = events.File(events.Path(path, within, device), 7, 1, 0o600, 1)
            happened[path] = [
                _event(events.Opened, file=file, access=Access.READ, repeats=0),
                _event(events.Unlinked, target=Name(None, path)),
            ]
        told = {
            path: [
                fact.fields["Image"]
                for event in made
                for fact in maker.facts(
                    msgspec.structs.replace(event, tgid=process.pid, view=view), live, child
                )
            ]
            for path, made in happened.items()
        }
        process.communicate(b"\n")
    image = str(here / "unit.py")
    assert told == {hosts: [image, "/e"] * 2, f"{away}/shadow": [image] * 2}


@pytest.mark.parametrize(("target", "inside"), [(ROOT, True), (OUTSIDER, False)])
def test_whose_process_is_reached_into_is_told(maker, live, target, inside):
    event = _event(
        events.Privileged, operation="vm_read", text="", args=(target, 0, 0, 0), result=0
    )
    (fact,) = maker.facts(event, live, live.tree.get(CHILD))
    assert (fact.fields["TargetProcessId"], fact.fields["TargetInSession"]) == (target, inside)


@pytest.mark.parametrize(("address", "cloud"), [("169.254.169.254", True), ("192.0.2.1", False)])
def test_what_a_connection_says_is_what_the_event_says(maker, live, address, cloud):
    event = _event(
        events.Connected, address=address, port=80, protocol="tcp", cookie=1, datagram=False
    )
    (fact,) = maker.facts(event, live, live.tree.get(CHILD))
    assert fact.fields["CloudMetadata"] is cloud
    assert fact.fields["SentBytes"] == event.egress_bytes


@pytest.mark.parametrize("links", [0, 1])
def test_a_program_without_a_name_is_deleted_and_another_is_not(maker, live, here, links):
    event = ran(file_of(here / "unit.py", links=links), ("unit.py",))
    (fact,) = maker.facts(event, live, live.tree.get(CHILD))
    assert fact.fields["Deleted"] is (links == 0)


def test_what_no_download_tool_wrote_is_not_downloaded(maker, live, here):
    for name, downloaded in (("copy.py", True), ("unit.py", False)):
        file = file_of(here / name)
        read = _event(events.Opened, file=file, access=Access.READ, repeats=0)
        for event in (read, ran(file, (name,))):
            (fact,) = maker.facts(event, live, live.tree.get(CHILD))
            assert fact.fields["Downloaded"] is downloaded, (name, event)


def test_a_copy_that_was_there_before_is_no_self_copy_when_it_is_run(maker, live, here):
    (here / "older.py").write_text((here / "agent.py").read_text())
    for name, expected in (("copy.py", True), ("older.py", False)):
        event = ran(file_of(here / name), (name,))
        (fact,) = maker.facts(event, live, live.tree.get(CHILD))
        assert fact.fields["SelfCopy"] is expected


def test_a_copy_that_was_there_before_is_no_self_copy_when_it_is_read(maker, live, here):
    (here / "older.py").write_text((here / "agent.py").read_text())
    for name, expected in (("copy.py", True), ("older.py", False)):
        opened = _event(events.Opened, file=file_of(here / name), access=Access.READ, repeats=0)
        (fact,) = maker.facts(opened, live, live.tree.get(CHILD))
        assert fact.fields["SelfCopy"] is expected


def test_the_agents_own_program_may_name_itself(maker, live, here):
    event = ran(file_of(here / "agent.py"), ("agent.py", str(here / "agent.py")))
    (fact,) = maker.facts(event, live, live.tree.get(CHILD))
    assert fact.fields["SelfNamed"] is False


def test_the_agents_own_start_does_not_name_itself(maker, live, here):
    named = {}
    for pid in (ROOT, CHILD):
        image = file_of(Path("/bin/true"))
        event = ran(image, ("true", str(here / "agent.py")), pid)
        (fact,) = maker.facts(event, live, live.tree.get(pid))
        named[pid] = fact.fields["SelfNamed"]
    assert named == {ROOT: False, CHILD: True}


def test_a_limit_of_whom_it_may_concern_is_no_fact_unless_it_is_the_monitors(maker, live):
    def told(whom):
        event = _event(
            events.Privileged, operation="limit", text="", args=(whom, 7, 5, 0), result=0
        )
        return [f.fields["Detail"] for f in maker.facts(event, live, live.tree.get(CHILD))]

    assert told(CHILD) == told(OUTSIDER) == []
    assert told(os.getpid()) == [str(os.getpid())]
    assert told(threading.get_native_id()) == [str(threading.get_native_id())]


@pytest.mark.parametrize(
    ("operation", "text", "args"),
    [
        ("mount", "/{here}/points-there", (0, 0, 0, 0)),
        ("mount", "somewhere/../points-there", (0, 0, 0, 0)),
        ("umount", "points-there", (0, 0, 0, 0)),
        ("move_mount", "points-there", (-1, 0, 0xFFFFFF9C, 0)),
    ],
)
def test_a_mount_is_where_its_path_leads(maker, live, here, operation, text, args):
    (here / "somewhere").mkdir()
    (here / "points-there").symlink_to("somewhere")
    text = text.format(here=str(here)[1:])
    event = _event(events.Privileged, operation=operation, text=text, args=args, result=0)
    (fact,) = maker.facts(event, live, live.tree.get(CHILD))
    assert fact.fields["Detail"] == str(here / "somewhere")
