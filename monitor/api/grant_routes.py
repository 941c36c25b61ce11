# SPDX-License-Identifier: Apache-2.0
"""Grants: leave for one session to do for a while what one rule stops."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Response

from monitor.api.requests import Asker, Behind, Monitor, answer, body_of, recorded, visible_session
from monitor.api.schema import answers, list_of, reference, takes
from monitor.control import GrantRequest, Peer
from monitor.errors import SessionNotFoundError
from monitor.incidents import Grant

router = APIRouter(tags=["grants"])

Wanted = Annotated[GrantRequest, Depends(body_of(GrantRequest))]


@router.get("/grants", responses=answers(list_of(Grant), "Those that hold now, oldest first."))
def list_grants(
    monitor: Behind,
    asker: Asker,
    session: Annotated[str | None, Query(description="Of this session only: id or name.")] = None,
) -> Response:
    """What sessions were given leave to do, and until when."""
    seen = [grant for grant in monitor.control.grants() if _visible(monitor, asker, grant)]
    return answer([one for one in seen if session in {None, one.session.id, one.session.name}])


@router.post(
    "/sessions/{session}/grants",
    status_code=201,
    responses=answers(reference(Grant), "The grant.", status=201),
    openapi_extra=takes(GrantRequest),
)
def create_grant(session: str, wanted: Wanted, monitor: Behind, asker: Asker) -> Response:
    """Let a session do what one rule stops, for `for_s` seconds; it is not resumed by that."""
    found = visible_session(monitor, asker, session)
    return recorded(monitor, monitor.control.grant(found.id, wanted, who=asker.name), status=201)


@router.delete("/grants/{grant}", responses=answers(reference(Grant), "The grant, revoked."))
def revoke_grant(grant: str, monitor: Behind, asker: Asker) -> Response:
    """Take a grant back before its time."""
    known = (one for one in monitor.control.grants() if one.id == grant)
    if not any(_visible(monitor, asker, one) for one in known):
        raise HTTPException(404, f"no grant {grant!r} holds")
    return recorded(monitor, monitor.control.revoke(grant, who=asker.name))


def _visible(monitor: Monitor, asker: Peer, grant: Grant) -> bool:
    try:
        visible_session(monitor, asker, grant.session.id)
    except SessionNotFoundError:
        return False
    return True
