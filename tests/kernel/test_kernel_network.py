# SPDX-License-Identifier: Apache-2.0
"""Where to, under which name, and how much."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
import time

import pytest
from wires import (
    address,
    client_hello,
    connect,
    dns_query,
    listener,
    send,
    socketcall,
    unix_address,
)

from monitor.events import Connected, NameAsked, ServerNamed, UnixConnected
from monitor.tier import Tier

FASTOPEN = 0x20000000
STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
# Anybody may hold port 53 of 127.0.0.1; nobody holds it here.
RESOLVER = "127.53.0.53"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_tcp_connection_tells_its_destination(inside, puppet, host):
    with listener(host) as server:
        port = server.getsockname()[1]
        connect(puppet, address(host, port))
    [connected] = inside.events()
    assert isinstance(connected, Connected)
    assert (connected.address, connected.port, connected.protocol) == (host, port, "tcp")
    assert (connected.tgid, connected.datagram) == (puppet.pid, False)


def test_a_connection_that_nobody_answers_was_asked_for_all_the_same(inside, puppet):
    with listener() as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        connect(puppet, address("127.0.0.1", port))
    assert [e.port for e in inside.events(Connected)] == [port]


def test_an_ipv4_address_in_ipv6_clothes_is_a_connection(inside, puppet):
    with listener() as server:
        connect(puppet, address("::ffff:127.0.0.1", server.getsockname()[1]))
    assert [e.address for e in inside.events(Connected)] == ["::ffff:127.0.0.1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_datagram_without_a_connection_tells_its_destination(inside, puppet, host):
    to = address(host, 9)
    fd = puppet("socket", int.from_bytes(to[:2], "little"), DATAGRAM, 0)
    send(puppet, fd, b"x", to)
    [sent] = inside.events()
    assert (sent.address, sent.port, sent.protocol, sent.datagram) == (host, 9, "udp", True)


def test_many_datagrams_to_one_place_are_one_event_and_another_place_is_another(inside, puppet):
    fd = puppet("socket", socket.AF_INET, DATAGRAM, 0)
    for port in (9, 9, 9, 10, 9):
        send(puppet, fd, b"x", address("127.0.0.1", port))
    assert [e.port for e in inside.events(Connected)] == [9, 10]


def test_data_in_the_first_packet_is_a_connection(inside, puppet):
    with listener() as server:
        port = server.getsockname()[1]
        fd = puppet("socket", socket.AF_INET, STREAM, 0)
        send(puppet, fd, b"early", address("127.0.0.1", port), FASTOPEN)
        accepted, _ = server.accept()
        with accepted:
            assert accepted.recv(5) == b"early"
    assert [e.port for e in inside.events(Connected)] == [port]


def test_a_dns_question_over_udp_tells_the_name(inside, puppet):
    fd = puppet("socket", socket.AF_INET, DATAGRAM, 0)
    send(puppet, fd, dns_query(b"Pay.Example.COM"), address(RESOLVER, 53))
    [asked] = inside.events(NameAsked)
    assert asked.name == "pay.example.com"
    assert (asked.address, asked.port, asked.protocol) == (RESOLVER, 53, "udp")
    assert asked.tgid == puppet.pid


def test_a_dns_question_on_a_connected_socket_tells_the_name(inside, puppet):
    fd = connect(puppet, address(RESOLVER, 53), DATAGRAM)
    send(puppet, fd, dns_query(b"a.example"))
    assert [e.name for e in inside.events(NameAsked)] == ["a.example"]


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_dns_question_over_tcp_tells_the_name(inside, puppet, pieces):
    query = dns_query(b"tcp.example")
    length = struct.pack(">H", len(query))
    try:
        server = listener(RESOLVER, 53)
        with server:
            fd = connect(puppet, address(RESOLVER, 53))
            for piece in [length + query] if pieces == 1 else [length, query]:
                send(puppet, fd, piece)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        pytest.skip("somebody holds port 53 of every address")
    [asked] = inside.events(NameAsked)
    assert (asked.name, asked.protocol) == ("tcp.example", "tcp")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_tls_client_hello_tells_the_server_name_on_any_port(inside, puppet, host):
    with listener(host) as server:
        port = server.getsockname()[1]
        fd = connect(puppet, address(host, port))
        send(puppet, fd, client_hello("Shop.Example.Com"))
    [named] = inside.events(ServerNamed)
    assert (named.name, named.address, named.port) == ("shop.example.com", host, port)


def test_other_data_names_nobody(inside, puppet):
    with listener() as server:
        fd = connect(puppet, address("127.0.0.1", server.getsockname()[1]))
        send(puppet, fd, b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n" * 3)
    assert not inside.events(ServerNamed)


def test_what_left_the_session_is_counted_and_told_with_every_event(inside, puppet, kernel):
    with listener() as server:
        fd = connect(puppet, address("127.0.0.1", server.getsockname()[1]))
        send(puppet, fd, b"x" * 1000)
        send(puppet, fd, b"y" * 234)
        puppet("memfd_create", b"now", 0)
    assert kernel.egress_bytes(inside.slot) == (1234, 0)
    assert [e.egress_bytes for e in inside.events()] == [0, 1234]


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
@pytest.mark.parametrize("kind", [STREAM, socket.SOCK_SEQPACKET], ids=["stream", "packets"])
def test_a_local_connection_tells_the_name_and_who_listens(inside, puppet, scratch, abstract, kind):
    name = f"\0estop-{os.getpid()}".encode() if abstract else os.fsencode(scratch / "socket")
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(name)
        server.listen()
        connect(puppet, unix_address(name), kind)
    [connected] = inside.events()
    assert isinstance(connected, UnixConnected)
    assert connected.name == name.replace(b"\0", b"@").decode()
    assert connected.listener == os.getpid()


def test_a_local_connection_by_the_old_32_bit_call_tells_the_name(inside, puppet, scratch):
    path = os.fsencode(scratch / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        fd = puppet("socket", socket.AF_UNIX, STREAM, 0)
        inside.forget_events()
        puppet.compat(*socketcall(puppet, fd, unix_address(path)))
    [connected] = inside.events()
    assert isinstance(connected, UnixConnected)
    assert connected.name == os.fsdecode(path)


def test_other_32_bit_socket_calls_are_no_connection(inside, puppet):
    fd = puppet("socket", socket.AF_UNIX, STREAM, 0)
    listen = 4
    puppet("bind", fd, unix_address(b""), 2)
    puppet.compat("socketcall", listen, puppet.place(struct.pack("<II", fd, 1)))
    assert inside.events(UnixConnected) == []


def test_a_local_datagram_socket_tells_its_name(inside, puppet, scratch):
    path = os.fsencode(scratch / "log")
    with socket.socket(socket.AF_UNIX, DATAGRAM) as server:
        server.bind(path)
        connect(puppet, unix_address(path), DATAGRAM)
    assert [e.name for e in inside.events(UnixConnected)] == [os.fsdecode(path)]


@pytest.mark.usefixtures("nothing_refused")
def test_while_quarantined_no_connection_and_no_datagram_leaves(inside, puppet, kernel):
    kernel.quarantine(inside.slot, on=True)
    with listener() as server:
        to = address("127.0.0.1", server.getsockname()[1])
        with pytest.raises(PermissionError):
            connect(puppet, to)
        fd = puppet("socket", socket.AF_INET, STREAM, 0)
        with pytest.raises(PermissionError):
            send(puppet, fd, b"early", to, FASTOPEN)
        datagrams = puppet("socket", socket.AF_INET, DATAGRAM, 0)
        for _ in range(2):  # the second is a repeat, which is not sent but must be refused as well
            with pytest.raises(PermissionError):
                send(puppet, datagrams, b"x", to)
        kernel.quarantine(inside.slot, on=False)
        connect(puppet, to)
        send(puppet, datagrams, b"x", to)


def test_while_quarantined_a_connected_socket_sends_nothing(inside, puppet, kernel):
    with socket.socket(socket.AF_INET, DATAGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.05)
        fd = connect(puppet, address("127.0.0.1", receiver.getsockname()[1]), DATAGRAM)
        kernel.quarantine(inside.slot, on=True)
        with pytest.raises(PermissionError):
            send(puppet.stubborn(), fd, b"cut")
        with pytest.raises(TimeoutError):
            receiver.recv(8)
        # An LSM program refuses the call, and no packet is made.
        assert kernel.egress_bytes(inside.slot) == (0, 0 if kernel.tier is Tier.LSM else 3)
        kernel.quarantine(inside.slot, on=False)
        send(puppet, fd, b"again")
        assert receiver.recv(8) == b"again"


def waiting(sock):
    """Bytes that have arrived and were not read."""
    return struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))[0]


def test_bytes_already_queued_do_not_arrive_after_the_cut_and_do_after_the_release(
    inside, puppet, kernel
):
    with listener(receive_bytes=65536) as server:
        fd = puppet("socket", socket.AF_INET, STREAM, 0)
        size = puppet.place(struct.pack("i", 8 << 20))
        puppet("setsockopt", fd, socket.SOL_SOCKET, 32, size, 4)  # SO_SNDBUFFORCE
        to = address("127.0.0.1", server.getsockname()[1])
        puppet("connect", fd, to, len(to))
        content = puppet.place(b"x" * (1 << 18))
        queued = sum(
            puppet("sendto", fd, content, 1 << 18, socket.MSG_DONTWAIT, 0, 0) for _ in range(16)
        )
        assert queued == 4 << 20
        accepted, _ = server.accept()
        with accepted:
            kernel.quarantine(inside.slot, on=True)
            arrived = waiting(accepted)
            assert arrived < queued // 2
            assert read_for(accepted, 0.4) == arrived
            kernel.quarantine(inside.slot, on=False)
            # Retransmission waits longer each time it was cut: up to a second by now.
            assert read_for(accepted, 5, enough=queued - arrived) == queued - arrived


def read_for(sock, seconds, enough=1 << 30):
    """How much comes within a time, at most until there is enough."""
    total, end = 0, time.monotonic() + seconds
    while total < enough and time.monotonic() < end:
        sock.settimeout(0.1)
        try:
            total += len(sock.recv(1 << 20))
        except TimeoutError:
            continue
    return total
