# SPDX-License-Identifier: Apache-2.0
"""Alerts: a page of them, one of them, and the stream of new ones."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from monitor.alerts import Action, Alert, Level
from monitor.alerts import Response as Asked
from monitor.api.requests import Asker, Behind, answer
from monitor.api.schema import answers, reference
from monitor.api.stream import AlertStream
from monitor.control import Peer
from monitor.record.queries import MAX_LIMIT, AlertFilters, Page

router = APIRouter(prefix="/alerts", tags=["alerts"])

Cursor = Annotated[int, Field(ge=0, le=2**63 - 1)] | None  # what SQLite's INTEGER holds


class Wanted(BaseModel):
    """Which alerts. All conditions must hold."""

    model_config = ConfigDict(extra="forbid")

    session: str | None = Field(None, description="Id or name.")
    rule: str | None = Field(None, description="Id.")
    level: Level | None = Field(None, description="This severe or worse.")
    response: Asked | None = None
    action: Action | None = Field(None, description="What was really done.")
    text: str | None = Field(None, description="In the title, the event or the outcome; any case.")

    def filters(self, peer: Peer) -> AlertFilters:
        """As the store takes them, and never more than the peer may see."""
        given: AlertFilters = {**self.model_dump()}  # type: ignore[typeddict-item]
        return given if peer.trusted else {**given, "uid": peer.uid}


class WantedPage(Wanted):
    """Which alerts, and which page of them."""

    since: Cursor = Field(None, description="Changed after this cursor, oldest first.")
    before: Cursor = Field(None, description="Older than this cursor, newest first.")
    limit: int = Field(100, ge=1, le=MAX_LIMIT)


@router.get(
    "",
    responses=answers(
        reference(Page),
        "A page. `next` is the cursor for the same parameter of the next call: with `since` it is"
        " always there, without it is null at the end of history.",
    ),
)
def list_alerts(wanted: Annotated[WantedPage, Query()], monitor: Behind, asker: Asker) -> Response:
    """Alerts, newest first; or with `since`, what is new or has changed."""
    return answer(monitor.store.alerts(**wanted.filters(asker)))


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: first `following`, without data, then `alert` for a"
        " new alert and for every later state of it (same `id` inside). The event's id is the"
        " cursor: send it as Last-Event-ID to resume without a gap. Without it the stream starts"
        " with the next alert.",
        "content": {"text/event-stream": {"schema": reference(Alert)}},
    }
}


@router.get("/stream", status_code=200, response_class=AlertStream, responses=_STREAM)
def stream_alerts(
    wanted: Annotated[Wanted, Query()],
    monitor: Behind,
    asker: Asker,
    request: Request,
    last_event_id: Annotated[Cursor, Header()] = None,
) -> Response:
    """Alerts as they are recorded; a reader that stops reading is cut off and may resume."""
    return AlertStream(
        store=monitor.store,
        filters=wanted.filters(asker),
        since=monitor.store.seq if last_event_id is None else last_event_id,
        followers=request.app.state.followers,
        abort=getattr(request.state, "abort", None),
    )


@router.get("/{alert}", responses=answers(reference(Alert), "The alert, evidence included."))
def one_alert(alert: str, monitor: Behind, asker: Asker) -> Response:
    """One alert by id."""
    found = monitor.store.alert(alert, uid=None if asker.trusted else asker.uid)
    if found is None:
        raise HTTPException(404, f"there is no alert {alert!r}")
    return answer(found)
