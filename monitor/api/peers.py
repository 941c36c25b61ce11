# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a connection, by the kernel's word; it decides nothing.

A connection over the unix socket carries the credentials its process had when it connected. That
process is judged, whoever sends: an agent could have a child connect and end, so one that has ended
may ask nothing. Who hands a connected socket to an agent asks for it, like a proxy, while he lives.

One user can hold only so many connections, and all supervised processes together few, and nobody one
over which nothing is asked, so that neither another user nor an agent that runs as root can keep a person
from reaching the emergency stop.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import logging
import os
import pwd
import select
import socket
import struct
import time
from collections.abc import Callable

from msgspec.structs import replace
from uvicorn.protocols.http.h11_impl import H11Protocol

from monitor.api.origin import uid_of
from monitor.control import Peer
from monitor.incidents import Role
from monitor.procfs import stat_of

_LOG = logging.getLogger(__name__)

_UCRED = struct.Struct("3i")  # pid, uid, gid
_SO_PEERPIDFD = 77  # Linux 6.5

IsSupervised = Callable[[int], bool]
"""Does this pid belong to a session? Called on the server's loop: be quick."""

MAX_PER_USER = 512
"""Dashboards that follow, and the calls between."""
MAX_SUPERVISED = 4
"""Enough to be told 403."""
_REQUEST_S = 5.0
"""So long may a client take to send a whole request."""
_WARN_S = 60.0

_User = tuple[str, int]
"""Way and uid. Over TCP it may be a proxy's, which must not use up what its user has to the socket."""
_SUPERVISED = "supervised", 0
_UNKNOWN = "TCP", -1


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


class Caller:
    """The process that connected over the unix socket; one for each connection.

    It is known again by when it started: a descriptor of it would be one more for each connection.
    """

    def __init__(self, connection: socket.socket, is_supervised: IsSupervised) -> None:
        self._peer = credentials(connection)
        self._is_supervised = is_supervised
        self._supervised = False
        started = _started(self._peer.pid)
        # Asked second: if who connected still lives, it was he of whom we read.
        self._started = started if _still_lives(connection) else ""

    def judge(self) -> Peer:
        """Who asks now. Asked for each request: `estop attach` may have come after the connection.

        `supervised` once it was seen to be, for it may leave its session; `gone` if it has ended.
        """
        pid = self._peer.pid
        if pid == 0:  # a process of a namespace we cannot see into, so it may well be an agent
            return replace(self._peer, supervised=True)
        supervised = self._is_supervised(pid)
        # Asked second: if it is there still, nobody else had its pid when we looked.
        gone = not self._started or _started(pid) != self._started
        self._supervised |= supervised and not gone
        return replace(self._peer, supervised=self._supervised, gone=gone)


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty for one that has ended."""
    fields = stat_of(pid)
    return "" if not fields or fields[0] in {"Z", "X"} else fields[19]


def _still_lives(connection: socket.socket) -> bool:
    """False if the process that connected has ended, even if another has its pid by now.

    Before Linux 6.5 the kernel does not say: then whoever has the pid when we accept is taken for it.
    """
    try:
        pidfd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        return error.errno == errno.ENOPROTOOPT
    try:
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        return not ended.poll(0)
    finally:
        os.close(pidfd)


def nobody_supervised(_pid: int) -> bool:
    """For an API without sessions of its own."""
    return False


class _Crowd:
    """Who has how many connections."""

    def __init__(self) -> None:
        self._open: collections.Counter[_User] = collections.Counter()
        self._warned: dict[_User, float] = {}

    def enter(self, user: _User) -> bool:
        """Count one more; False if that is too many."""
        self._open[user] += 1
        most = MAX_SUPERVISED if user == _SUPERVISED else MAX_PER_USER
        if self._open[user] <= most:
            return True
        now = time.monotonic()
        if now - self._warned.get(user, -_WARN_S) >= _WARN_S:
            self._warned[user] = now
            _LOG.warning("clients are turned away: %s uid %d has %d connections", *user, most)
        return False

    def leave(self, user: _User) -> None:
        """Count one less."""
        self._open[user] -= 1


def protocol(is_supervised: IsSupervised = nobody_supervised) -> type[H11Protocol]:
    """HTTP/1.1 that puts `caller` (None over TCP) and `abort` into every request's state; for one server."""
    crowd = _Crowd()

    class PeerProtocol(H11Protocol):
        user = _UNKNOWN
        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            connection = transport.get_extra_info("socket")
            unix = connection.family == socket.AF_UNIX
            caller = Caller(connection, is_supervised) if unix else None
            self.user = _user(caller.judge()) if caller else ("TCP", _tcp_uid(connection))
            self.app_state = {**self.app_state, "caller": caller, "abort": transport.abort}
            super().connection_made(transport)
            self.expect_request(_REQUEST_S)
            if not crowd.enter(self.user):
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            crowd.leave(self.user)
            if self.deadline is not None:
                self.deadline.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            # Who sends nothing at all is closed by uvicorn before; who sends a part is not.
            self.expect_request(self.timeout_keep_alive + _REQUEST_S)

        def expect_request(self, within_s: float) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
            self.deadline = self.loop.call_later(within_s, self.abort_without_request)

        def abort_without_request(self) -> None:
            asked = self.cycle is not None and not self.cycle.more_body
            if not asked or self.cycle.response_complete:
                self.transport.abort()

    return PeerProtocol


def _user(peer: Peer) -> _User:
    return _SUPERVISED if peer.supervised or peer.gone else ("unix", peer.uid)


def _tcp_uid(connection: socket.socket) -> int:
    try:
        uid = uid_of(connection)
    except OSError:  # it has hung up already
        uid = None
    return _UNKNOWN[1] if uid is None else uid
