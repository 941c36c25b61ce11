# SPDX-License-Identifier: Apache-2.0
"""Incidents: a page of them, one with all that belongs to it, its evidence, and who looks after it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from monitor.alerts import Level
from monitor.api.alert_routes import acknowledge_those_of
from monitor.api.requests import (
    Asker,
    Behind,
    Cursor,
    Monitor,
    answer,
    body_of,
    recorded,
    visible_session,
)
from monitor.api.schema import REFUSAL, answers, reference, takes
from monitor.api.stream import RecordStream
from monitor.control import ActRequest, AssignRequest, Peer
from monitor.errors import RecordNotFoundError
from monitor.incidents import Incident, Standing
from monitor.record.account import Account, account
from monitor.record.bundle import MEDIA_TYPE, bundle
from monitor.record.queries import MAX_LIMIT, IncidentFilters, IncidentPage

router = APIRouter(prefix="/incidents", tags=["incidents"])

Note = Annotated[ActRequest, Depends(body_of(ActRequest, empty=b"{}"))]
Assign = Annotated[AssignRequest, Depends(body_of(AssignRequest))]
Evidence = dict[str, Any] | None


class Wanted(BaseModel):
    """Which incidents. All conditions must hold."""

    model_config = ConfigDict(extra="forbid")

    session: str | None = Field(None, description="Id or name.")
    level: Level | None = Field(None, description="This severe or worse.")
    state: Standing | None = Field(None, description="Open ones wait for somebody's decision.")
    text: str | None = Field(None, description="In the title, the sentence or the session's name.")

    def filters(self, peer: Peer) -> IncidentFilters:
        """As the store takes them, and never more than the peer may see."""
        given: IncidentFilters = {**self.model_dump()}  # type: ignore[typeddict-item]
        return given if peer.trusted else {**given, "uid": peer.uid}


class WantedPage(Wanted):
    """Which incidents, and which page of them."""

    since: Cursor = Field(None, description="Changed after this cursor, oldest first.")
    before: Cursor = Field(None, description="Older than this cursor, newest first.")
    limit: int = Field(100, ge=1, le=MAX_LIMIT)


@router.get("", responses=answers(reference(IncidentPage), "A page; `next` as for alerts."))
def list_incidents(
    wanted: Annotated[WantedPage, Query()], monitor: Behind, asker: Asker
) -> Response:
    """Incidents, newest first; or with `since`, what is new or has changed."""
    return answer(monitor.store.incidents(**wanted.filters(asker)))


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events as those of `/alerts/stream`: first `following`, then"
        " `incident` for a new one and for every later state of it.",
        "content": {"text/event-stream": {"schema": reference(Incident)}},
    },
    "default": REFUSAL,
}


@router.get("/stream", status_code=200, response_class=RecordStream, responses=_STREAM)
def stream_incidents(
    wanted: Annotated[Wanted, Query()],
    monitor: Behind,
    asker: Asker,
    request: Request,
    last_event_id: Annotated[Cursor, Header()] = None,
) -> Response:
    """Incidents as they open, are looked after, and close."""
    return RecordStream(
        store=monitor.store,
        table="incidents",
        filters=wanted.filters(asker),
        since=monitor.store.seq if last_event_id is None else last_event_id,
        followers=request.app.state.followers,
        abort=getattr(request.state, "abort", None),
    )


@router.get("/{incident}", responses=answers(reference(Account), "All that belongs to it."))
def one_incident(incident: str, monitor: Behind, asker: Asker) -> Response:
    """What happened, what led to it, what got out, and what was done."""
    told, _ = _account(monitor, asker, incident)
    return answer(told)


_BUNDLE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A tar file compressed with Zstandard; `manifest.json` has the hashes.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    },
    "default": REFUSAL,
}


@router.get("/{incident}/evidence", responses=_BUNDLE, response_class=Response)
def evidence_of(incident: str, monitor: Behind, asker: Asker) -> Response:
    """Everything that was recorded of the incident, as one file to hand on."""
    told, evidence = _account(monitor, asker, incident)
    name = f"estop-{told.id}.tar.zst"
    return Response(
        bundle(told, evidence),
        media_type=MEDIA_TYPE,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


_CHANGED = answers(reference(Incident), "The incident as it is now.")


@router.post(
    "/{incident}/acknowledge",
    responses=_CHANGED,
    openapi_extra=takes(ActRequest, required=False),
)
def acknowledge_incident(incident: str, note: Note, monitor: Behind, asker: Asker) -> Response:
    """Say that somebody has seen it, and with it those of its alerts that nobody had seen."""
    found, _ = _visible(monitor, asker, incident)
    acknowledge_those_of(monitor, found, who=asker.name, why=note.why)
    done = monitor.control.acknowledge(found.id, who=asker.name, why=note.why)
    return recorded(monitor, done)


@router.post("/{incident}/assign", responses=_CHANGED, openapi_extra=takes(AssignRequest))
def assign_incident(incident: str, to: Assign, monitor: Behind, asker: Asker) -> Response:
    """Say who looks after it."""
    found, _ = _visible(monitor, asker, incident)
    return recorded(monitor, monitor.control.assign(found.id, to.to, who=asker.name))


def _visible(monitor: Monitor, asker: Peer, incident: str) -> tuple[Incident, Evidence]:
    found = monitor.store.incident(incident, uid=None if asker.trusted else asker.uid)
    if found is None:
        raise RecordNotFoundError(
            f"there is no incident {incident!r}", mend="see `estop incidents`"
        )
    return found


def _account(monitor: Monitor, asker: Peer, incident_id: str) -> tuple[Account, Evidence]:
    incident, evidence = _visible(monitor, asker, incident_id)
    session = incident.session.id
    after, until = incident.after or None, incident.until or None
    page = monitor.store.alerts(session=session, after=after, until=until, limit=MAX_LIMIT)
    alerts = list(reversed(page.items))
    cause = monitor.store.alert(incident.cause) if incident.cause else None
    if cause is not None:
        evidence = cause.evidence
        if cause.id not in {alert.id for alert in alerts}:  # more than a page of them came since
            alerts.insert(0, cause)
    rules = monitor.control.rules() if cause else []
    told = account(
        incident,
        visible_session(monitor, asker, session),
        alerts,
        [a for a in monitor.store.actions(session) if incident.spans(a.time)],
        evidence,
        next((rule for rule in rules if cause and rule.id == cause.rule.id), None),
    )
    return told, evidence
