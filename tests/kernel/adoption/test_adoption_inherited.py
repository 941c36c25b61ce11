# SPDX-License-Identifier: Apache-2.0
"""What a process has open when it is taken in counts: files become events, sockets are cut."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import pytest
from laboratory import Puppet
from wires import address, connect, listener

from monitor.events import Access, Event, Opened, View
from monitor.sessions.observer import Observation
from monitor.subjects import Mode
from monitor.tier import Tier

CWD = -100


def test_that_a_secret_was_touched_is_told_when_a_rule_says_so(free, attach, observer, labelled):
    live = attach(free.ready("family", "children", "0").pid)
    root = live.tree.get(live.root_pid)
    event = Event(
        ktime_ns=1, egress_bytes=0, slot=live.slot, tgid=root.pid, tid=root.pid, uid=0,
        view=View(0, 0), cut=False,
    )  # fmt: skip
    for labels in (frozenset(), frozenset({"credential"})):
        assert labelled == []
        observer.remember(Observation(event, live, root, ()), labels)
    assert labelled == [live]
    assert live.tree.fields(root)["Tainted"] == ["credential"]


def test_files_that_were_open_before_become_events(free, attach, registry, scratch):
    for name in ("read", "written", "both"):
        (scratch / name).touch()
    os.chown(scratch / "read", 65534, 65534)
    puppet = Puppet(free.ready("puppet"))
    flags = {"read": os.O_RDONLY, "written": os.O_WRONLY | os.O_APPEND, "both": os.O_RDWR}
    for name, how in flags.items():
        puppet("openat", CWD, os.fsencode(scratch / name), how)
    puppet("openat", CWD, os.fsencode(scratch), os.O_RDONLY | os.O_DIRECTORY)
    puppet("openat", CWD, os.fsencode(scratch / "read"), os.O_PATH)
    live = attach(puppet.pid)
    opens = [e for e in registry.pending() if e.file.path.text.startswith(str(scratch))]
    assert {os.path.basename(e.file.path.text): e.access for e in opens} == {
        "read": Access.READ,
        "written": Access.WRITE,
        "both": Access.READ | Access.WRITE,
    }
    assert len(opens) == 3
    for event in opens:
        assert isinstance(event, Opened)
        assert (event.slot, event.tgid, event.uid) == (live.slot, puppet.pid, 0)
        assert event.file.inode == os.stat(event.file.path.text).st_ino
    assert registry.pending() == []


def test_an_open_file_whose_name_is_gone_keeps_its_old_name(free, attach, registry, scratch):
    puppet = Puppet(free.ready("puppet"))
    puppet("openat", CWD, os.fsencode(scratch / "gone"), os.O_WRONLY | os.O_CREAT, 0o600)
    (scratch / "gone").unlink()
    attach(puppet.pid)
    [event] = [e for e in registry.pending() if "gone" in e.file.path.text]
    assert event.file.path.text == str(scratch / "gone")
    assert event.file.links == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("where", ["free", "shared"])
def test_sockets_that_were_open_before_are_cut_by_the_quarantine(
    request, where, attach, kernel, host
):
    place = request.getfixturevalue(where)
    puppet = Puppet(place.ready("puppet"))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as receiver, listener(host) as server:
        receiver.bind((host, 0))
        receiver.settimeout(0.05)
        stream = connect(puppet, address(host, server.getsockname()[1]))
        datagrams = connect(puppet, address(host, receiver.getsockname()[1]), socket.SOCK_DGRAM)
        with server.accept()[0] as accepted:
            live = attach(puppet.pid)
            accepted.settimeout(0.05)
            puppet("write", stream, b"seen", 4)
            assert accepted.recv(8) == b"seen"
            kernel.quarantine(live.slot, on=True)
            stubborn = puppet.stubborn()
            with pytest.raises(PermissionError):
                stubborn("write", datagrams, b"cut", 3)
            with suppress(PermissionError):  # refused, or taken and not sent: as the tier can
                stubborn("write", stream, b"cut", 3)
            with pytest.raises(TimeoutError):
                accepted.recv(8)
    assert kernel.egress_bytes(live.slot)[0] == 4
    if kernel.tier is Tier.TRACEPOINT:
        assert kernel.egress_bytes(live.slot)[1] >= 6


def test_no_number_of_new_sockets_makes_an_old_one_forgotten(shared, attach, kernel):
    puppet = Puppet(shared.ready("puppet"))
    with listener("127.0.0.1") as server:
        stream = connect(puppet, address("127.0.0.1", server.getsockname()[1]))
        with server.accept()[0] as accepted:
            live = attach(puppet.pid)
            sockets = kernel.map("sockets")
            for cookie in range(1 << 40, (1 << 40) + 140_000):  # twice what there is room for
                sockets.set((cookie,), (live.slot,))
            kernel.quarantine(live.slot, on=True)
            with suppress(PermissionError):  # as above
                puppet.stubborn()("write", stream, b"cut", 3)
            accepted.settimeout(0.05)
            with pytest.raises(TimeoutError):
                accepted.recv(8)


def test_files_that_a_launched_child_inherited_become_events(registry, lab, free, scratch):
    (scratch / "inherited").touch()
    child = Puppet(free.ready("puppet"))
    child("openat", CWD, os.fsencode(scratch / "inherited"), os.O_RDWR)
    live = registry.launch(child.pid, name="agent", argv=["x"], mode=Mode.ENFORCE, uid=0)
    lab.accept(live.slot)
    [event] = [e for e in registry.pending() if "inherited" in e.file.path.text]
    assert (event.slot, event.tgid) == (live.slot, child.pid)
    assert event.access == Access.READ | Access.WRITE


def test_a_socket_that_a_launched_child_inherited_is_cut_by_the_quarantine(
    registry, lab, kernel, free
):
    child = Puppet(free.ready("puppet"))
    with listener("127.0.0.1") as server:
        stream = connect(child, address("127.0.0.1", server.getsockname()[1]))
        with server.accept()[0] as accepted:
            live = registry.launch(child.pid, name="agent", argv=["x"], mode=Mode.ENFORCE, uid=0)
            lab.accept(live.slot)
            accepted.settimeout(0.05)
            kernel.quarantine(live.slot, on=True)
            with suppress(PermissionError):
                child.stubborn()("write", stream, b"cut", 3)
            with pytest.raises(TimeoutError):
                accepted.recv(8)
