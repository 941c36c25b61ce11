# SPDX-License-Identifier: Apache-2.0
"""Alerts: a page of them, one of them, and the stream of new ones."""

import datetime as dt
import threading
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from msgspec.structs import replace
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from monitor.alerts import Action, Alert, Care, Level, Triage
from monitor.alerts import Response as Asked
from monitor.api.requests import Asker, Behind, Cursor, Monitor, answer, body_of, recorded
from monitor.api.schema import REFUSAL, answers, reference, takes
from monitor.api.stream import RecordStream
from monitor.casebook import assigned, seen
from monitor.control import ActRequest, AssignRequest, Peer
from monitor.errors import RecordNotFoundError
from monitor.incidents import Incident
from monitor.record.queries import MAX_LIMIT, AlertFilters, Page

router = APIRouter(prefix="/alerts", tags=["alerts"])

_CARE = threading.Lock()
"""Two who take note of one alert at the same time: neither word may be lost."""

Note = Annotated[ActRequest, Depends(body_of(ActRequest, empty=b"{}"))]
Assign = Annotated[AssignRequest, Depends(body_of(AssignRequest))]


class Wanted(BaseModel):
    """Which alerts. All conditions must hold."""

    model_config = ConfigDict(extra="forbid")

    session: str | None = Field(None, description="Id or name.")
    rule: str | None = Field(None, description="Id.")
    level: Level | None = Field(None, description="This severe or worse.")
    response: Asked | None = None
    action: Action | None = Field(None, description="What was really done.")
    tactic: str | None = Field(
        None, pattern="^[a-z-]+$", description="Of MITRE ATT&CK: `credential-access`."
    )
    state: Triage | None = Field(None, description="Has somebody taken note of it?")
    text: str | None = Field(None, description="In the title, the event or the outcome; any case.")
    after: AwareDatetime | None = Field(None, description="At this time or later, RFC 3339.")
    until: AwareDatetime | None = Field(None, description="Before this time, RFC 3339.")

    def filters(self, peer: Peer) -> AlertFilters:
        """As the store takes them, and never more than the peer may see."""
        given: AlertFilters = {
            **self.model_dump(),  # type: ignore[typeddict-item]
            "after": _as_recorded(self.after),
            "until": _as_recorded(self.until),
        }
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
    },
    "default": REFUSAL,
}


@router.get("/stream", status_code=200, response_class=RecordStream, responses=_STREAM)
def stream_alerts(
    wanted: Annotated[Wanted, Query()],
    monitor: Behind,
    asker: Asker,
    request: Request,
    last_event_id: Annotated[Cursor, Header()] = None,
) -> Response:
    """Alerts as they are recorded; a reader that stops reading is cut off and may resume."""
    return RecordStream(
        store=monitor.store,
        table="alerts",
        filters=wanted.filters(asker),
        since=monitor.store.seq if last_event_id is None else last_event_id,
        followers=request.app.state.followers,
        abort=getattr(request.state, "abort", None),
    )


@router.get("/{alert}", responses=answers(reference(Alert), "The alert, evidence included."))
def one_alert(alert: str, monitor: Behind, asker: Asker) -> Response:
    """One alert by id."""
    return answer(_visible(monitor, asker, alert))


_CHANGED = answers(reference(Alert), "The alert as it is now, without its evidence.")


@router.post(
    "/{alert}/acknowledge", responses=_CHANGED, openapi_extra=takes(ActRequest, required=False)
)
def acknowledge_alert(alert: str, note: Note, monitor: Behind, asker: Asker) -> Response:
    """Say that somebody has seen it."""
    return _care(monitor, asker, alert, lambda care: seen(care, asker.name, note.why))


@router.post("/{alert}/assign", responses=_CHANGED, openapi_extra=takes(AssignRequest))
def assign_alert(alert: str, to: Assign, monitor: Behind, asker: Asker) -> Response:
    """Say who looks after it."""
    return _care(monitor, asker, alert, lambda care: assigned(care, to.to, asker.name))


def _care(monitor: Monitor, asker: Peer, alert: str, change: Callable[[Care], Care]) -> Response:
    with _CARE:
        found = _visible(monitor, asker, alert)
        care = change(_care_of(found))
        monitor.store.save_care(found.id, care)
        return recorded(monitor, replace(found, care=care, evidence=None))


def _care_of(alert: Alert) -> Care:
    return alert.care if isinstance(alert.care, Care) else Care()


def acknowledge_those_of(monitor: Monitor, incident: Incident, *, who: str, why: str) -> None:
    """Whoever has seen an incident has seen its alerts; those that others have seen stay theirs."""
    wanted: AlertFilters = {
        "session": incident.session.id,
        "after": incident.after or None,
        "until": incident.until or None,
        "state": Triage.NEW,
        "limit": MAX_LIMIT,
    }
    with _CARE:
        page = monitor.store.alerts(**wanted)
        while page.items:
            for one in page.items:
                monitor.store.save_care(one.id, seen(_care_of(one), who, why))
            if page.next is None:
                break
            wanted["before"] = page.next
            page = monitor.store.alerts(**wanted)


def _visible(monitor: Monitor, asker: Peer, alert: str) -> Alert:
    found = monitor.store.alert(alert, uid=None if asker.trusted else asker.uid)
    if found is None:
        raise RecordNotFoundError(f"there is no alert {alert!r}", mend="see `estop alerts`")
    return found


def _as_recorded(time: dt.datetime | None) -> str | None:
    return time.astimezone(dt.UTC).isoformat(timespec="milliseconds") if time else None
