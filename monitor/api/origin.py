# SPDX-License-Identifier: Apache-2.0
"""Whose socket is at the other end of a TCP connection from this machine; it decides nothing.

pyroute2 lists every socket there is, which takes too long for a server's loop: here the kernel is asked
for the one, by both of its addresses (`struct inet_diag_req_v2`, a tenth of a millisecond).
"""

from __future__ import annotations

import contextlib
import socket
import struct

_SOCK_DIAG, _BY_FAMILY = 4, 20
_REQUEST = 1
_ANY = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ASKED = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states
_PORTS = struct.Struct("!HH")  # the client's, ours
_ANYWHERE = struct.Struct("=III")  # interface, cookie
_FOUND = struct.Struct("=4x48x4x4x4xII")  # uid, inode


def uid_of(connection: socket.socket) -> int | None:
    """The user whose socket it is; None for one of another machine, and where the kernel cannot say."""
    client, ours = connection.getpeername(), connection.getsockname()
    family = connection.family
    question = b"".join(
        (
            _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY),
            _PORTS.pack(client[1], ours[1]),
            *(socket.inet_pton(family, end[0]).ljust(16, b"\0") for end in (client, ours)),
            _ANYWHERE.pack(0, _ANY, _ANY),
        )
    )
    header = _HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST, 0, 0)
    with contextlib.suppress(OSError), _diag() as diag:
        diag.send(header + question)
        answer = diag.recv(4096)
        if _HEADER.unpack_from(answer)[1] == _BY_FAMILY:
            uid, inode = _FOUND.unpack_from(answer, _HEADER.size)
            return int(uid) if inode else None  # one that was closed is root's, for the kernel
    return None


def _diag() -> socket.socket:
    diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG)
    diag.settimeout(0)  # the answer is there once the question is sent
    return diag
