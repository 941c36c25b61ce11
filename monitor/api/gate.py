# SPDX-License-Identifier: Apache-2.0
"""Who may ask at all: stands before every route; it must not know what the routes do.

Over the unix socket the kernel says who asks. Over TCP the bearer token does, and the Host header
must be a loopback name, so that a web page cannot reach the API through a name of its own. The
console's own files are for whoever asks by such a name: they know nothing that a token guards.
A supervised process is told 403 whatever it asks, and the monitor hears of it; so is who asks over the
connection of a process that has ended, for that may have been supervised. A viewer may only read, and
nobody may ask without end; but the way to the stop is never narrowed.
"""

from __future__ import annotations

import collections
import os
import time
from collections.abc import Callable, Collection

import msgspec
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.api.peers import Caller, describe
from monitor.api.problems import problem
from monitor.api.tokens import Tokens
from monitor.control import Control, Peer
from monitor.incidents import Role

PeerOf = Callable[[tuple[str, int]], Peer | None]
"""The process behind a TCP client's address, where it can be known. Called on a thread."""

_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}
_READING = {"GET", "HEAD", "OPTIONS"}
_STOPS = ("/freeze", "/kill")
_NOBODY = Peer(uid=-1, name="nobody", role=Role.VIEWER)
"""Who reads what is open to all."""
_MAX_FAILURES = 10
_FAILURE_WINDOW_S = 60.0


def nobody_known(_address: tuple[str, int]) -> Peer | None:
    """For a host on which TCP clients cannot be told apart."""
    return None


class Gate:
    """ASGI middleware: the request goes on with `peer` in its state, or is refused here."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        control: Control,
        tokens: Tokens,
        requests_per_s: int = 200,
        peer_of: PeerOf = nobody_known,
        open_paths: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._control = control
        self._tokens = tokens
        self._most = RateLimitItemPerSecond(requests_per_s)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._peer_of = peer_of
        self._open_paths = open_paths
        self._clock = clock
        self._failures: collections.deque[float] = collections.deque(maxlen=_MAX_FAILURES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        caller: Caller | None = state.get("caller")
        found = caller.judge() if caller else await self._tcp(scope)
        if isinstance(found, Peer) and (found.supervised or found.gone):
            await run_in_threadpool(self._report, found)
            found = _refuse_process(found)
        if isinstance(found, Peer):
            found = self._may(found, scope) or found
        if isinstance(found, Response):
            found.headers["connection"] = "close"
            await found(scope, receive, send)
            return
        state["peer"] = found
        await self._app(scope, receive, send)

    def _may(self, peer: Peer, scope: Scope) -> Response | None:
        """The refusal, if there is one."""
        if peer is _NOBODY:
            return None  # from memory: as cheap as a refusal, and half a page is none
        if scope["path"].endswith(_STOPS) and peer.role is not Role.VIEWER:
            return None
        if scope["method"] not in _READING and peer.role is Role.VIEWER:
            return problem(403, "role", "a viewer may only read", "ask with a responder's token")
        if peer.trusted and peer.pid:
            return None  # root itself: it could do worse, and must be able to launch and look
        # Who has no name yet is known by his uid: to name him may ask the network.
        if not self._limiter.hit(self._most, peer.name or str(peer.uid)):
            detail = f"more than {self._most.amount} requests a second"
            return problem(
                429,
                "too-many-requests",
                detail,
                "ask less often, or follow a stream",
                {"Retry-After": "1"},
            )
        return None

    async def _tcp(self, scope: Scope) -> Peer | Response:
        address = scope.get("client")
        known = await run_in_threadpool(self._peer_of, tuple(address)) if address else None
        if known is not None and known.supervised:
            return known
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _without_port(host) not in _LOOPBACK_NAMES:
            return problem(
                421, "host", f"this API is not served for {host!r}", "ask 127.0.0.1 or localhost"
            )
        if scope["path"] in self._open_paths and scope["method"] in {"GET", "HEAD"}:
            return _NOBODY
        scheme, _, token = headers.get("authorization", "").partition(" ")
        known_token = self._tokens.find(token.strip()) if scheme.lower() == "bearer" else None
        if known_token is not None:
            name = f"token {known_token.name}"
            return Peer(uid=os.geteuid(), name=name, trusted=True, role=known_token.role)
        return self._refuse_token(given=bool(scheme))

    def _refuse_token(self, *, given: bool) -> Response:
        mend = "send `Authorization: Bearer TOKEN`; `estop token create NAME` makes one"
        headers = {"WWW-Authenticate": 'Bearer realm="estop"'}
        if not given:
            return problem(401, "no-token", "no token was sent", mend, headers)
        # Only wrong tokens are slowed down: the right one must get in during an attack too.
        now = self._clock()
        many = len(self._failures) == _MAX_FAILURES
        if many and now - self._failures[0] < _FAILURE_WINDOW_S:
            wait_s = int(_FAILURE_WINDOW_S - (now - self._failures[0])) + 1
            return problem(
                429, "wrong-token", "too many wrong tokens", mend, {"Retry-After": str(wait_s)}
            )
        self._failures.append(now)
        return problem(401, "wrong-token", "the token is wrong", mend, headers)

    def _report(self, peer: Peer) -> None:
        name = peer.name or describe(peer.uid)
        self._control.refuse_supervised(msgspec.structs.replace(peer, name=name))


def _refuse_process(peer: Peer) -> Response:
    if peer.supervised:
        return problem(403, "supervised", "a supervised process may ask nothing here")
    return problem(
        403,
        "caller-gone",
        "the process that connected has ended, so nobody can say whose it was",
        "let the process that connects live until it has its answer",
    )


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
