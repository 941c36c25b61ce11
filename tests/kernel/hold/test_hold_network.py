# SPDX-License-Identifier: Apache-2.0
"""A candidate connection reaches its destination, and nothing is sent on it before the answer."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import pytest
from held import go_on, judged
from laboratory import until
from states import state_of
from wires import address, connect, listener, send, socketcall

from monitor.events import Connected, Verdict
from monitor.lowered import Lowered, NetworkWatch


def test_a_certain_destination_is_refused_and_asked_about(inside, puppet, verdicts, holds):
    verdicts.replace(Lowered(networks=(NetworkWatch("127.9.0.0/16", (443, 8443), certain=True),)))
    with listener("127.9.1.1") as there:
        free = connect(puppet, address("127.9.1.1", there.getsockname()[1]))
    assert free >= 0
    with pytest.raises(PermissionError):
        connect(puppet, address("127.9.1.1", 8443))
    event = inside.wait(Connected, lambda e: e.port == 8443)
    assert event.verdict == Verdict.CANDIDATE | Verdict.CERTAIN | Verdict.REFUSED
    assert holds.waiting(inside.slot) == 1
    with listener("127.0.0.1") as there, pytest.raises(PermissionError):
        connect(puppet, address("127.0.0.1", there.getsockname()[1]))
    judged(holds, inside)
    with listener("127.0.0.1") as there:
        connect(puppet, address("127.0.0.1", there.getsockname()[1]))


def test_a_network_within_another_is_refused_what_the_other_one_is(inside, puppet, verdicts):
    outer = NetworkWatch("127.0.0.0/8", (2525,), certain=True)
    inner = NetworkWatch("127.9.0.0/16", (3306,), certain=False)
    verdicts.replace(Lowered(networks=(outer, inner)))
    with pytest.raises(PermissionError):
        connect(puppet, address("127.9.1.1", 2525))
    assert inside.wait(Connected).verdict & Verdict.CERTAIN


def test_of_two_addresses_that_end_alike_each_datagram_is_weighed(inside, puppet, verdicts, holds):
    verdicts.replace(Lowered(networks=(NetworkWatch("fd00::/8", (), certain=False),)))
    fd = puppet("socket", socket.AF_INET6, socket.SOCK_DGRAM, 0)
    for host in ("::1", "fd00::1"):
        with suppress(OSError):  # there is no way to the second, and it is asked about all the same
            send(puppet, fd, b"x", address(host, 9))
    asked = inside.wait(Connected, lambda e: e.address == "fd00::1")
    assert asked.verdict & Verdict.CANDIDATE
    assert holds.waiting(inside.slot) == 1


def test_a_contact_that_there_is_no_room_to_tell_of_is_refused(
    lab, inside, puppet, verdicts, holds
):
    verdicts.replace(Lowered(networks=(NetworkWatch("127.9.0.0/16", (), certain=False),)))
    before = lab.kernel.lost()
    with lab.session() as other, listener("127.9.1.1") as there:
        flood = other.puppet()
        fd = flood("socket", socket.AF_INET, socket.SOCK_DGRAM, 0)
        port = 0
        while lab.kernel.lost()["send"] == before["send"]:  # and nobody reads
            port += 1
            with suppress(PermissionError):
                send(flood, fd, b"x", address("127.9.1.2", port))
        with pytest.raises(PermissionError):
            connect(puppet, address("127.9.1.1", there.getsockname()[1]))
    assert lab.kernel.lost()["connect"] == before["connect"] + 1
    assert holds.waiting(inside.slot) == 1


def ping(puppet, fd, host):
    """An echo request, of which the kernel fills in what it must."""
    return send(puppet, fd, b"\x08\0\xf7\xff" + bytes(4), address(host, 0))


def test_who_is_pinged_is_told(inside, puppet):
    fd = puppet("socket", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    for host in ("127.9.1.1", "127.9.1.1", "127.9.1.2"):
        ping(puppet, fd, host)
    told = [(e.address, e.protocol, e.verdict) for e in inside.events(Connected)]
    assert told == [
        ("127.9.1.1", "icmp", Verdict.PASS),
        ("127.9.1.2", "icmp", Verdict.PASS),
    ]


@pytest.mark.parametrize("certain", [False, True])
def test_a_ping_to_where_a_rule_forbids_does_not_leave(inside, puppet, verdicts, holds, certain):
    verdicts.replace(Lowered(networks=(NetworkWatch("127.9.0.0/16", (), certain=certain),)))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as there:
        there.bind(("127.9.1.1", 0))
        there.settimeout(0.1)
        fd = puppet("socket", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        with pytest.raises(PermissionError):
            ping(puppet, fd, "127.9.1.1")
        event = inside.wait(Connected)
        assert event.verdict & Verdict.CANDIDATE
        assert event.verdict & Verdict.REFUSED
        assert holds.waiting(inside.slot) == 1
        judged(holds, inside)
        with suppress(PermissionError):
            ping(puppet, fd, "127.9.1.1")
        if certain:
            with pytest.raises(TimeoutError):
                there.recv(64)
        else:
            assert there.recv(64)


def by_hand(puppet, fd, host, protocol, port):
    """A packet of one's own making, of which the kernel fills in lengths and checksum."""
    ip = struct.pack("!BxHHHBBHI4s", 0x45, 0, 0, 0, 9, protocol, 0, 0, socket.inet_aton(host))
    udp = struct.pack("!HHHH", 4000, port, 9, 0) + b"x"
    tcp = struct.pack("!HHIIBBHHH", 4000, port, 1, 0, 0x50, 2, 9, 0, 0)
    packet = ip + (udp if protocol == socket.IPPROTO_UDP else tcp)
    return send(puppet, fd, packet, address(host, 0))


@pytest.mark.parametrize("protocol", [socket.IPPROTO_UDP, socket.IPPROTO_TCP])
@pytest.mark.parametrize("certain", [False, True])
def test_a_packet_of_ones_own_making_to_where_a_rule_forbids_does_not_leave(
    inside, puppet, verdicts, holds, certain, protocol
):
    verdicts.replace(Lowered(networks=(NetworkWatch("127.9.0.0/16", (25,), certain=certain),)))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as there:
        there.bind(("127.9.1.1", 0))
        there.settimeout(0.1)
        fd = puppet("socket", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        by_hand(puppet, fd, "127.9.1.1", protocol, 26)
        assert there.recv(64)
        with pytest.raises(PermissionError):
            by_hand(puppet, fd, "127.9.1.1", protocol, 25)
        with pytest.raises(TimeoutError):
            there.recv(64)
        told = [(e.port, e.protocol, bool(e.verdict)) for e in inside.events(Connected)]
        name = "udp" if protocol == socket.IPPROTO_UDP else "tcp"
        assert told == [(26, name, False), (25, name, True)]
        assert holds.waiting(inside.slot) == 1
        judged(holds, inside)
        with suppress(PermissionError):
            by_hand(puppet, fd, "127.9.1.1", protocol, 25)
        if certain:
            with pytest.raises(TimeoutError):
                there.recv(64)
        else:
            assert there.recv(64)


def test_what_a_session_contacts_is_held_once_it_has_touched_a_secret(
    inside, puppet, kernel, verdicts, holds
):
    verdicts.replace(Lowered(taint_connects=frozenset({"r"})))
    with listener("127.0.0.1") as there:
        where = address("127.0.0.1", there.getsockname()[1])
        connect(puppet, where)
        assert inside.wait(Connected).verdict == Verdict.PASS
        kernel.taint(inside.slot)
        fd = puppet("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
        puppet.become("connect", fd, puppet.place(where), len(where))
        event = inside.wait(Connected, lambda e: e.verdict & Verdict.CANDIDATE)
        assert event.verdict == Verdict.CANDIDATE
        assert until(lambda: state_of(puppet.pid) == "T")  # connected, and not back from the call
        there.accept()[0].close()
        assert go_on(holds, inside, puppet) == 0
        verdicts.replace(Lowered())  # no rule asks for it any more
        connect(puppet, where)
    assert holds.waiting(inside.slot) == 0


def test_a_contact_by_the_old_32_bit_call_is_held_as_well(inside, puppet, kernel, verdicts, holds):
    verdicts.replace(Lowered(taint_connects=frozenset({"r"})))
    kernel.taint(inside.slot)
    with listener("127.0.0.1") as there:
        fd = puppet("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
        where = address("127.0.0.1", there.getsockname()[1])
        puppet.become_compat(*socketcall(puppet, fd, where))
        inside.wait(Connected, lambda e: e.verdict & Verdict.CANDIDATE)
        assert until(lambda: state_of(puppet.pid) == "T")
        assert go_on(holds, inside, puppet) == 0


def test_who_does_not_wait_for_his_connection_sends_nothing_before_the_answer(
    inside, puppet, kernel, verdicts, holds
):
    verdicts.replace(Lowered(taint_connects=frozenset({"r"})))
    kernel.taint(inside.slot)
    with listener("127.0.0.1") as there:
        where = address("127.0.0.1", there.getsockname()[1])
        fd = puppet("socket", socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
        with pytest.raises(BlockingIOError):
            puppet("connect", fd, puppet.place(where), len(where))
        inside.wait(Connected, lambda e: e.verdict == Verdict.CANDIDATE)
        peer, _ = there.accept()  # the handshake passes, so that a release loses no second
        with peer:
            assert puppet("sendto", fd, puppet.place(b"secret"), 6, 0, 0, 0) == 6
            peer.settimeout(0.3)
            with pytest.raises(TimeoutError):
                peer.recv(6)
            judged(holds, inside)
            peer.settimeout(5)
            assert peer.recv(6) == b"secret"
