# SPDX-License-Identifier: Apache-2.0
"""Bytes that programs send: socket addresses, a DNS question, a TLS ClientHello; and who receives."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from laboratory import Puppet


def address(host: str, port: int) -> bytes:
    """A sockaddr."""
    if ":" in host:
        raw = socket.inet_pton(socket.AF_INET6, host)
        return struct.pack("<H", socket.AF_INET6) + struct.pack(">HI", port, 0) + raw + bytes(4)
    raw = socket.inet_pton(socket.AF_INET, host)
    return struct.pack("<H", socket.AF_INET) + struct.pack(">H", port) + raw + bytes(8)


def unix_address(name: bytes) -> bytes:
    """A sockaddr_un; an abstract name starts with NUL."""
    return struct.pack("<H", socket.AF_UNIX) + name


def dns_query(name: bytes) -> bytes:
    """A question for an A record."""
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b".")) + b"\0"
    return struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">HH", 1, 1)


def client_hello(name: str) -> bytes:
    """What a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without an answer")


def connect(puppet: Puppet, to: bytes, kind: int = socket.SOCK_STREAM) -> int:
    """Make a socket and connect it; its descriptor in the puppet."""
    fd = puppet("socket", int.from_bytes(to[:2], "little"), kind, 0)
    puppet("connect", fd, to, len(to))
    return fd


def socketcall(puppet: Puppet, fd: int, to: bytes) -> tuple[str, int, int]:
    """The call that connects a socket as 32-bit programs of old do: its name and its arguments."""
    arguments = struct.pack("<III", fd, puppet.place(to), len(to))
    return ("socketcall", 3, puppet.place(arguments))  # SYS_CONNECT of <linux/net.h>


def send(puppet: Puppet, fd: int, data: bytes, to: bytes = b"", flags: int = 0) -> int:
    """Send bytes, to an address if one is given."""
    return puppet("sendto", fd, puppet.place(data), len(data), flags, to or 0, len(to))


@contextmanager
def listener(host: str = "127.0.0.1", port: int = 0, **options: int) -> Iterator[socket.socket]:
    """A TCP server of the test's own process, which is in no session."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if "receive_bytes" in options:  # before listen, or what is accepted has the default
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options["receive_bytes"])
        server.bind((host, port))
        server.listen()
        server.settimeout(5)
        yield server
