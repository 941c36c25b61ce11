# SPDX-License-Identifier: Apache-2.0
"""Facts say what was meant, and take nothing for what it only looks like."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest
from happenings import CHILD, OUTSIDER, ROOT, event_of, file_of, ran

from monitor import events
from monitor.events import Access, Name
from monitor.sessions import disguise
from monitor.sessions.disguise import MountTable
from monitor.sessions.facts import FactMaker
from monitor.sessions.places import HostMounts, Roots, kind_of, view_of
from monitor.sessions.process_tree import read_process
from monitor.sessions.watched import WatchedPaths

_MADE = Access.WRITE | Access.CREATED


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
        "file": event_of(
            events.Opened,
            file=events.File(path, found.st_ino, 0, found.st_mode, 1),
            access=Access.WRITE | Access.CREATED,
            repeats=0,
        ),
        "symlink": event_of(events.Symlinked, text="/x", target=Name(None, str(here / "new"))),
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
        event_of(
            events.Connected,
            address="192.0.2.1",
            port=443,
            protocol="tcp",
            cookie=1,
            datagram=False,
        ),
        event_of(
            events.NameAsked, address="192.0.2.1", port=53, protocol="udp", name="example.org"
        ),
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
    event = event_of(events.Opened, file=file_of(here / "hosts"), access=Access.READ, repeats=0)
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
                event_of(events.Opened, file=file, access=Access.READ, repeats=0),
                event_of(events.Unlinked, target=Name(None, path)),
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
    event = event_of(
        events.Privileged, operation="vm_read", text="", args=(target, 0, 0, 0), result=0
    )
    (fact,) = maker.facts(event, live, live.tree.get(CHILD))
    assert (fact.fields["TargetProcessId"], fact.fields["TargetInSession"]) == (target, inside)


@pytest.mark.parametrize(("address", "cloud"), [("169.254.169.254", True), ("192.0.2.1", False)])
def test_what_a_connection_says_is_what_the_event_says(maker, live, address, cloud):
    event = event_of(
        events.Connected, address=address, port=80, protocol="tcp", cookie=1, datagram=False
    )
    (fact,) = maker.facts(event, live, live.tree.get(CHILD))
    assert fact.fields["CloudMetadata"] is cloud
    assert fact.fields["SentBytes"] == event.egress_bytes


@pytest.mark.parametrize(
    ("text", "within", "also"),
    [
        ("/work/setting", "/sys/kernel/core_pattern", {"0:999:/sys/kernel/core_pattern"}),
        ("/work/proc/sys/kernel/core_pattern", "/sys/kernel/core_pattern", set()),
    ],
)
def test_what_the_host_has_nowhere_goes_by_its_own_name_where_it_was_bound_to_another(
    maker, live, text, within, also
):
    path = events.Path(text, within, os.makedev(0, 999))
    file = events.File(path, 5, 0, 0o100644, 1)
    opened = event_of(events.Opened, file=file, access=Access.WRITE, repeats=0)
    facts = maker.facts(opened, live, live.tree.get(CHILD))
    assert {fact.fields["TargetFilename"] for fact in facts} == {text} | also


@pytest.mark.parametrize(
    ("kind", "within", "usual"),
    [
        ("proc", "/812/oom_score_adj", "/proc/812/oom_score_adj"),
        ("binfmt_misc", "/register", "/proc/sys/fs/binfmt_misc/register"),
        ("sysfs", "/kernel/uevent_helper", "/sys/kernel/uevent_helper"),
        ("tmpfs", "/812/oom_score_adj", None),
        ("tmpfs", "/register", None),
    ],
)
def test_what_the_kernel_shows_in_a_mount_made_anew_goes_by_its_usual_name(
    maker, live, monkeypatch, kind, within, usual
):
    monkeypatch.setattr(disguise, "kind_of", lambda _, device, __: kind if device else "")
    path = events.Path("/work/x" + within, within, os.makedev(0, 999))
    file = events.File(path, 5, 0, 0o100644, 1)
    opened = event_of(events.Opened, file=file, access=Access.WRITE, repeats=0)
    facts = maker.facts(opened, live, live.tree.get(CHILD))
    assert {fact.fields["TargetFilename"] for fact in facts} == {path.text, usual} - {None}


def test_a_number_that_the_host_gave_up_is_not_taken_for_what_the_host_had(
    maker, live, monkeypatch
):
    stale = {os.makedev(0, 999): [("", "/run/pins")]}
    monkeypatch.setattr(maker._mounts, "_mounts", stale)
    monkeypatch.setattr(maker._mounts, "refresh", stale.clear)
    path = events.Path("/work/x/812/mem", "/812/mem", os.makedev(0, 999))
    opened = event_of(
        events.Opened, file=events.File(path, 5, 0, 0o100600, 1), access=Access.READ, repeats=0
    )
    (fact,) = maker.facts(opened, live, live.tree.get(CHILD))
    assert fact.fields["TargetFilename"] == path.text


def test_the_kind_of_a_file_system_is_read_from_who_has_it_mounted():
    assert kind_of(os.getpid(), Path("/proc").stat().st_dev) == "proc"
    assert kind_of(os.getpid(), os.makedev(0, 0)) == kind_of(OUTSIDER, 1) == ""


@pytest.mark.parametrize(("access", "mode"), [(Access.WRITE, None), (_MADE, "4755")])
def test_a_file_that_is_made_tells_its_mode(maker, live, here, access, mode):
    own = file_of(here / "copy.py")
    opened = event_of(
        events.Opened, file=msgspec.structs.replace(own, mode=0o104755), access=access, repeats=0
    )
    facts = maker.facts(opened, live, live.tree.get(CHILD))
    assert {fact.fields.get("Mode") for fact in facts} == {mode}


@pytest.mark.parametrize("links", [0, 1])
def test_a_program_without_a_name_is_deleted_and_another_is_not(maker, live, here, links):
    event = ran(file_of(here / "unit.py", links=links), ("unit.py",))
    (fact,) = maker.facts(event, live, live.tree.get(CHILD))
    assert fact.fields["Deleted"] is (links == 0)


def test_what_no_download_tool_wrote_is_not_downloaded(maker, live, here):
    for name, downloaded in (("copy.py", True), ("unit.py", False)):
        file = file_of(here / name)
        read = event_of(events.Opened, file=file, access=Access.READ, repeats=0)
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
        opened = event_of(events.Opened, file=file_of(here / name), access=Access.READ, repeats=0)
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
        event = event_of(
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
    event = event_of(events.Privileged, operation=operation, text=text, args=args, result=0)
    (fact,) = maker.facts(event, live, live.tree.get(CHILD))
    assert fact.fields["Detail"] == str(here / "somewhere")
