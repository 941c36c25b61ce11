# SPDX-License-Identifier: Apache-2.0
"""What a process has open when it is taken in counts: files become events, sockets are cut."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress

import pytest
from laboratory import Puppet
from wires import address, connect, listener

from monitor.events import Access, Connected, Event, Opened, View
from monitor.sessions.observer import Observation
from monitor.subjects import Mode
from monitor.tier import Tier

CWD = -100
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def connected(registry):
    """What adoption made of sockets."""
    return [e for e in registry.pending() if isinstance(e, Connected)]


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


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_sockets_that_were_connected_before_become_events(free, attach, registry, host):
    puppet = Puppet(free.ready("puppet"))
    with listener(host) as server:
        port = server.getsockname()[1]
        connect(puppet, address(host, port))
        connect(puppet, address(host, 9), socket.SOCK_DGRAM)
        live = attach(puppet.pid)
        events = connected(registry)
    assert {(e.protocol, e.address, e.port) for e in events} == {
        ("tcp", host, port),
        ("udp", host, 9),
    }
    assert len(events) == 2
    for event in events:
        assert (event.slot, event.tgid, event.uid) == (live.slot, puppet.pid, 0)
    assert connected(registry) == []


def test_a_server_its_clients_and_standard_streams_are_no_connections_of_a_session(
    free, attach, registry
):
    puppet = Puppet(free.ready("puppet"))
    serving = puppet("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
    puppet("bind", serving, address("127.0.0.1", 0), 16)
    puppet("listen", serving, 1)
    name = puppet.place(bytes(16))
    puppet("getsockname", serving, name, puppet.place(struct.pack("<I", 16)))
    port = int.from_bytes(puppet.memory(name, 4)[2:], "big")
    puppet("socket", socket.AF_INET, socket.SOCK_DGRAM, 0)
    with (
        socket.create_connection(("127.0.0.1", port)),
        listener() as server,
    ):
        puppet("accept", serving, 0, 0)
        stream = connect(puppet, address("127.0.0.1", server.getsockname()[1]))
        puppet("dup2", stream, 2)
        attach(puppet.pid)
    assert connected(registry) == []


def test_a_session_in_a_network_of_its_own_is_looked_at_there(shared, attach, registry, kernel):
    puppet = Puppet(shared.ready("puppet"))
    puppet("unshare", CLONE_NEWNET)
    datagrams = puppet("socket", socket.AF_INET, socket.SOCK_DGRAM, 0)
    puppet("ioctl", datagrams, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
    to = address("127.0.0.1", 9)
    puppet("connect", datagrams, to, len(to))
    live = attach(puppet.pid)
    assert [(e.address, e.port) for e in connected(registry)] == [("127.0.0.1", 9)]
    kernel.quarantine(live.slot, on=True)
    with pytest.raises(PermissionError):
        puppet.stubborn()("write", datagrams, b"cut", 3)


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


def test_a_socket_that_a_launched_child_inherited_becomes_an_event(registry, lab, free):
    child = Puppet(free.ready("puppet"))
    with listener() as server:
        connect(child, address("127.0.0.1", server.getsockname()[1]))
        live = registry.launch(child.pid, name="agent", argv=["x"], mode=Mode.ENFORCE, uid=0)
        lab.accept(live.slot)
        [event] = connected(registry)
        assert (event.address, event.port) == server.getsockname()
    assert (event.slot, event.tgid) == (live.slot, child.pid)


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
