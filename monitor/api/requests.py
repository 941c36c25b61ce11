# SPDX-License-Identifier: Apache-2.0
"""What every route needs: the monitor behind the API, who asks, the body, the JSON answer."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
from fastapi import Depends, HTTPException, Request, Response
from pydantic import Field

from monitor.api.peers import describe
from monitor.api.tokens import Tokens
from monitor.control import Control, Peer
from monitor.errors import (
    AmbiguousSessionError,
    NotAllowedError,
    SessionNotFoundError,
    StoreError,
)
from monitor.incidents import Role
from monitor.metrics import Metrics
from monitor.record.encode import to_json
from monitor.record.store import Store
from monitor.subjects import Session, State

MAX_BODY_BYTES = 1024 * 1024
_RECORDED_WITHIN_S = 3.0

T = TypeVar("T")

Cursor = Annotated[int, Field(ge=0, le=2**63 - 1)] | None  # what SQLite's INTEGER holds


@dataclass(frozen=True, slots=True)
class Monitor:
    """What the routes ask. One for each app, in `app.state.monitor`."""

    control: Control
    store: Store
    metrics: Metrics
    tokens: Tokens


def _monitor(request: Request) -> Monitor:
    monitor = request.app.state.monitor
    assert isinstance(monitor, Monitor)
    return monitor


def _peer(request: Request) -> Peer:
    """Not async on purpose: naming a uid may ask the network, so it belongs on a thread."""
    peer = request.state.peer
    assert isinstance(peer, Peer)
    return peer if peer.name else msgspec.structs.replace(peer, name=describe(peer.uid))


Behind = Annotated[Monitor, Depends(_monitor)]
Asker = Annotated[Peer, Depends(_peer)]


def body_of(struct: type[T], *, empty: bytes = b"") -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads `struct` strictly from the body; `empty` stands for no body."""
    decoder = msgspec.json.Decoder(struct)

    async def read(request: Request) -> T:
        received = bytearray()
        async for chunk in request.stream():
            received += chunk
            if len(received) > MAX_BODY_BYTES:
                raise HTTPException(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
        return decoder.decode(bytes(received) or empty)

    return read


def answer(value: object, *, status: int = 200) -> Response:
    """JSON of structs, printable throughout."""
    return Response(to_json(value), status_code=status, media_type="application/json")


def only_admins(peer: Peer) -> None:
    """For what is everybody's."""
    if peer.role is not Role.ADMIN:
        raise NotAllowedError(f"a {peer.role} may not do that", mend="ask as root or an admin")


def recorded(monitor: Monitor, value: object, *, status: int = 200) -> Response:
    """The answer to an act: given once it is on disk, for what was answered must not be lost."""
    try:
        monitor.store.settle(_RECORDED_WITHIN_S)
    except StoreError as error:
        raise StoreError(f"it is done, but not yet recorded: {error}", mend=error.mend) from error
    return answer(value, status=status)


def visible_session(monitor: Monitor, peer: Peer, session: str) -> Session:
    """A session that the peer may know of, living or recorded; others do not exist for them.

    Its id comes before a name, and of a name who lives before who ended last: AmbiguousSessionError if
    several live, for one must not be stopped instead of another. The living are found without the disk.
    """
    with suppress(SessionNotFoundError):
        found = monitor.control.session(session)
        if visible(peer, found):
            return found
    ours = [one for one in monitor.control.sessions() if visible(peer, one)]
    living = [one for one in ours if one.name == session and one.state.alive]
    if len(living) > 1:
        raise AmbiguousSessionError(
            f"{len(living)} sessions are named {session!r}",
            mend=f"use an id: {', '.join(one.id for one in living)}",
        )
    known = living or _past(monitor, peer, session, ours)
    if not known:
        raise SessionNotFoundError(
            f"there is no session {session!r}", mend="see `estop sessions` for those there are"
        )
    return known[0]


def _past(monitor: Monitor, peer: Peer, session: str, ours: list[Session]) -> list[Session]:
    """Those of this run come before what the record says of the same; of a name the newest first."""
    recorded = [as_recorded(old) for old in monitor.store.sessions() if visible(peer, old)]
    named = [one for one in (*ours, *recorded) if one.name == session]
    named.sort(key=lambda one: one.id, reverse=True)
    return [one for one in recorded if one.id == session] + named


def visible(peer: Peer, session: Session) -> bool:
    """May the peer know of it?"""
    return peer.trusted or session.uid == peer.uid


def as_recorded(old: Session) -> Session:
    """A session of an earlier run. If it lived when that run ended, it has left our sight since."""
    return msgspec.structs.replace(old, state=State.LOST) if old.state.alive else old
