# SPDX-License-Identifier: Apache-2.0
"""Server-sent alerts and incidents: each follower has a cursor into the record, and no queue of its own.

The record is the buffer: a commit only wakes the followers, and each reads on from its cursor as
fast as its client takes it. So a slow client costs one page of memory, loses nothing, and is cut
off when it takes nothing at all for a while. Followers that wake for the same commit and stand at the
same place read one page together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

from prometheus_client import Gauge
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from monitor.record.store import Store

_LOG = logging.getLogger(__name__)

KEEP_ALIVE_S = 15
STUCK_S = 10.0
"""A client that takes nothing for so long is cut off."""
_PAGE_ROWS = 16

_Place = tuple[str, int, tuple[tuple[str, Any], ...]]
"""Table, cursor and filters."""


class _Page(NamedTuple):
    newest: int
    """Number of the newest row when it was read."""
    changes: list[tuple[int, str]]


async def _read(store: Store, table: str, filters: Mapping[str, Any], since: int) -> _Page:
    newest = store.seq
    changes = await run_in_threadpool(store.changes, table, filters, since=since, limit=_PAGE_ROWS)
    return _Page(newest, [(seq, row.decode()) for seq, row in changes])


class Followers:
    """All open streams of one app; what the store wakes and the server ends."""

    def __init__(self, count: Gauge) -> None:
        self._count = count
        self._wakers: set[asyncio.Event] = set()
        self._pages: dict[_Place, asyncio.Task[_Page]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.ended = False

    def add(self) -> asyncio.Event:
        """An event that is set whenever there may be something new, or the end has come."""
        self._loop = asyncio.get_running_loop()
        waker = asyncio.Event()
        self._wakers.add(waker)
        self._count.set(len(self._wakers))
        return waker

    def remove(self, waker: asyncio.Event) -> None:
        """Its stream is over."""
        self._wakers.discard(waker)
        self._count.set(len(self._wakers))

    async def read_on(
        self, store: Store, table: str, filters: Mapping[str, Any], since: int
    ) -> _Page:
        """The next changes after `since`; whoever asks for the same meanwhile is given the same."""
        place: _Place = (table, since, tuple(sorted(filters.items())))
        page = self._pages.get(place)
        if page is None:
            page = self._pages[place] = asyncio.create_task(_read(store, table, filters, since))
            page.add_done_callback(lambda done: self._forget(place, done))
        return await asyncio.shield(page)  # one of them may go, the others still want it

    def _forget(self, place: _Place, page: asyncio.Task[_Page]) -> None:
        if self._pages.get(place) is page:
            del self._pages[place]
        if not page.cancelled():
            page.exception()  # all who wanted it may be gone: it is nobody's error then

    def committed(self, _seq: int) -> None:
        """Subscribed to the store: called on its writer's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def end(self) -> None:
        """End every stream; called on the server's loop."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        # A page that was begun before may be without what is new, and nobody would be woken again.
        self._pages.clear()
        for waker in self._wakers:
            waker.set()


class RecordStream(EventSourceResponse):
    """One follower's response: the changes of `alerts` or `incidents`, as events of that name."""

    media_type = "text/event-stream"

    def __init__(
        self,
        *,
        store: Store,
        table: str,
        filters: Mapping[str, Any],
        since: int,
        followers: Followers,
        abort: Callable[[], None] | None,
    ) -> None:
        super().__init__(
            _events(store, table, filters, since, followers),
            ping=KEEP_ALIVE_S,
            send_timeout=STUCK_S,
        )
        self._abort = abort

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client goes, the server ends, or the client is stuck."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            _LOG.warning("a follower of the alerts took nothing for %.0f s: cut off", STUCK_S)
            if self._abort is not None:
                # Only this frees what the kernel and the transport still hold for the client.
                self._abort()
                while (await receive())["type"] != "http.disconnect":
                    pass


async def _events(
    store: Store, table: str, filters: Mapping[str, Any], since: int, followers: Followers
) -> AsyncIterator[ServerSentEvent]:
    waker = followers.add()
    try:
        # At once, so that a client that is cut off before its first alert can resume as well.
        yield ServerSentEvent(data="", event="following", id=str(since))
        while not followers.ended:
            waker.clear()
            page = await followers.read_on(store, table, filters, since)
            for seq, row in page.changes:
                yield ServerSentEvent(data=row, event=table.removesuffix("s"), id=str(seq))
                since = seq
            if not page.changes:
                since = max(since, page.newest)  # nothing up to there is for this follower
                await waker.wait()
    finally:
        followers.remove(waker)
