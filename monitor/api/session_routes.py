# SPDX-License-Identifier: Apache-2.0
"""Sessions: seen, launched, attached, frozen, resumed and killed over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from monitor.alerts import ActionRecord
from monitor.api.requests import (
    Asker,
    Behind,
    answer,
    as_recorded,
    body_of,
    recorded,
    visible,
    visible_session,
)
from monitor.api.schema import answers, list_of, reference, takes
from monitor.control import ActRequest, AttachRequest, LaunchRequest
from monitor.errors import NotAllowedError
from monitor.subjects import Session

router = APIRouter(prefix="/sessions", tags=["sessions"])

Act = Annotated[ActRequest, Depends(body_of(ActRequest, empty=b"{}"))]
Launch = Annotated[LaunchRequest, Depends(body_of(LaunchRequest))]
Attach = Annotated[AttachRequest, Depends(body_of(AttachRequest))]
Past = Annotated[bool, Query(description="Those of earlier runs of the monitor too.")]

_ACTED: dict[str, Any] = {
    "responses": answers(reference(ActionRecord), "What was done, or why nothing was left to do."),
    "openapi_extra": takes(ActRequest, required=False),
}


@router.get("", responses=answers(list_of(Session), "The caller's sessions; root sees all."))
def list_sessions(monitor: Behind, asker: Asker, *, past: Past = False) -> Response:
    """Every session of this run of the monitor."""
    sessions = monitor.control.sessions()
    if past:
        known = {session.id for session in sessions}
        sessions += [as_recorded(old) for old in monitor.store.sessions() if old.id not in known]
    return answer([found for found in sessions if visible(asker, found)])


@router.get("/{session}", responses=answers(reference(Session), "The session."))
def one_session(session: str, monitor: Behind, asker: Asker) -> Response:
    """One session, by id or unique name."""
    return answer(visible_session(monitor, asker, session))


@router.get(
    "/{session}/actions", responses=answers(list_of(ActionRecord), "Who did what, and why.")
)
def actions_on(session: str, monitor: Behind, asker: Asker) -> Response:
    """What was done to a session, oldest first."""
    return answer(monitor.store.actions(visible_session(monitor, asker, session).id))


@router.post(
    "",
    status_code=201,
    responses=answers(reference(Session), "The new session.", status=201),
    openapi_extra=takes(LaunchRequest),
)
def launch(launching: Launch, monitor: Behind, asker: Asker, request: Request) -> Response:
    """Adopt a child that waits to exec its command; over the unix socket only."""
    if request.state.peer.pid == 0:
        raise NotAllowedError(
            "sessions are launched over the unix socket only", mend="use `estop run`"
        )
    return answer(monitor.control.launch(launching, asker), status=201)


@router.post(
    "/attach",
    status_code=201,
    responses=answers(reference(Session), "The new session.", status=201),
    openapi_extra=takes(AttachRequest),
)
def attach(attaching: Attach, monitor: Behind, asker: Asker) -> Response:
    """Adopt a process tree that already runs."""
    return answer(monitor.control.attach(attaching, asker), status=201)


@router.post("/{session}/freeze", **_ACTED)
def freeze(session: str, act: Act, monitor: Behind, asker: Asker) -> Response:
    """Cut the session's network and freeze it. Freezing a frozen session changes nothing."""
    found = visible_session(monitor, asker, session)
    return recorded(monitor, monitor.control.freeze(found.id, who=asker.name, why=act.why))


@router.post("/{session}/resume", **_ACTED)
def resume(session: str, act: Act, monitor: Behind, asker: Asker) -> Response:
    """Let a frozen session run again."""
    found = visible_session(monitor, asker, session)
    return recorded(monitor, monitor.control.resume(found.id, who=asker.name, why=act.why))


@router.post("/{session}/kill", **_ACTED)
def kill(session: str, act: Act, monitor: Behind, asker: Asker) -> Response:
    """End every process of the session, and prove it. Killing a dead session changes nothing."""
    found = visible_session(monitor, asker, session)
    return recorded(monitor, monitor.control.kill(found.id, who=asker.name, why=act.why))
