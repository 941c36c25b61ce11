# SPDX-License-Identifier: Apache-2.0
"""A session's facts while they are judged, as lines of a recording, until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from monitor.api.requests import Asker, Behind, Monitor, visible_session
from monitor.api.schema import REFUSAL
from monitor.api.stream import Followers
from monitor.recording.lines import Header, Writer
from monitor.recording.taps import Tap
from monitor.subjects import Session

router = APIRouter(prefix="/sessions", tags=["sessions"])

MEDIA_TYPE = "application/x-ndjson"
_LOOK_S = 0.1
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A recording, line by line, for as long as the session lives.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    },
    "default": REFUSAL,
}


@router.get("/{session}/facts", response_class=StreamingResponse, responses=_ANSWERS)
async def facts(session: str, monitor: Behind, asker: Asker, request: Request) -> StreamingResponse:
    """What rules see of the session, from now on; it ends when the session does."""
    found = await run_in_threadpool(visible_session, monitor, asker, session)
    tap = await run_in_threadpool(monitor.control.listen, found.id)
    followers = request.app.state.followers
    return StreamingResponse(_lines(monitor, found, tap, followers), media_type=MEDIA_TYPE)


async def _lines(
    monitor: Monitor, session: Session, tap: Tap, followers: Followers
) -> AsyncIterator[bytes]:
    writer = Writer()
    try:
        yield writer.header(
            Header(session=session.name, argv=session.argv, started=session.started)
        )
        while True:
            over = followers.ended or not await run_in_threadpool(_lives, monitor, session)
            happenings, lost = tap.take()
            if lost:
                yield writer.lost(lost)
            if happenings:
                yield b"".join(line for one in happenings for line in writer.lines(one))
            elif over:
                return
            else:
                await asyncio.sleep(_LOOK_S)
    finally:
        tap.close()


def _lives(monitor: Monitor, session: Session) -> bool:
    return monitor.control.session(session.id).state.alive
