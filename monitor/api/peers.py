# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a connection, by the kernel's word; it decides nothing.

A connection over the unix socket carries the credentials its process had when it connected. One
user can hold only so many connections, and all supervised processes together few, so that neither
another user nor an agent that runs as root can keep a person from reaching the emergency stop.
"""

from __future__ import annotations

import asyncio
import collections
import os
import pwd
import socket
import struct
from collections.abc import Callable

from uvicorn.protocols.http.h11_impl import H11Protocol

from monitor.control import Peer
from monitor.incidents import Role

_UCRED = struct.Struct("3i")  # pid, uid, gid

IsSupervised = Callable[[int], bool]
"""Does this pid belong to a session? Called on the server's loop: be quick."""

MAX_PER_USER = 512
"""Dashboards that follow, and the calls between."""
MAX_SUPERVISED = 4
"""Enough to be told 403."""
_TCP = -1
"""Stands for the uid of all TCP clients together: who they are is not known at this point."""
_SUPERVISED = -2


def describe(uid: int) -> str:
    """A uid for people: `uid 1000 (ann)`. May ask the network for the name: not for the loop."""
    try:
        return f"uid {uid} ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return f"uid {uid}"


def credentials(connection: socket.socket) -> Peer:
    """The process that connected; its pid is 0 if it is in a pid namespace we cannot see into."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _gid = _UCRED.unpack(raw)
    own = uid in {0, os.geteuid()}
    return Peer(uid=uid, pid=pid, trusted=own, role=Role.ADMIN if own else Role.RESPONDER)


def nobody_supervised(_pid: int) -> bool:
    """For an API without sessions of its own."""
    return False


def protocol(is_supervised: IsSupervised = nobody_supervised) -> type[H11Protocol]:
    """HTTP/1.1 that puts `peer` and `abort` into every request's state; for one server."""
    open_connections: collections.Counter[int] = collections.Counter()

    class PeerProtocol(H11Protocol):
        user = _TCP

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            connection = transport.get_extra_info("socket")
            peer = credentials(connection) if connection.family == socket.AF_UNIX else None
            most = MAX_PER_USER
            if peer is not None:
                self.user = peer.uid
                if is_supervised(peer.pid):
                    self.user, most = _SUPERVISED, MAX_SUPERVISED
            open_connections[self.user] += 1
            self.app_state = {**self.app_state, "peer": peer, "abort": transport.abort}
            super().connection_made(transport)
            if open_connections[self.user] > most:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            open_connections[self.user] -= 1
            super().connection_lost(exc)

    return PeerProtocol
