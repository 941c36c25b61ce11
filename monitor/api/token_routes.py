# SPDX-License-Identifier: Apache-2.0
"""Tokens for the API on loopback TCP: made, listed and revoked by admins."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from monitor.api.requests import Asker, Behind, answer, body_of, only_admins, recorded
from monitor.api.schema import answers, list_of, reference, takes
from monitor.control import NewToken, TokenRequest
from monitor.incidents import Token

router = APIRouter(prefix="/tokens", tags=["tokens"])

Wanted = Annotated[TokenRequest, Depends(body_of(TokenRequest))]


@router.get("", responses=answers(list_of(Token), "The tokens, without their secrets."))
def list_tokens(monitor: Behind, asker: Asker) -> Response:
    """Every token ever made; `revoked` says which open nothing any more."""
    only_admins(asker)
    return answer(monitor.tokens.listed())


@router.post(
    "",
    status_code=201,
    responses=answers(reference(NewToken), "The token and its secret.", status=201),
    openapi_extra=takes(TokenRequest),
)
def create_token(wanted: Wanted, monitor: Behind, asker: Asker) -> Response:
    """Make a token. Its secret is in this answer and nowhere else."""
    only_admins(asker)
    return recorded(monitor, monitor.tokens.create(wanted, who=asker.name), status=201)


@router.delete("/{token}", responses=answers(reference(Token), "The token, revoked."))
def revoke_token(token: str, monitor: Behind, asker: Asker) -> Response:
    """Revoke a token by id. To revoke one twice changes nothing."""
    only_admins(asker)
    return recorded(monitor, monitor.tokens.revoke(token))
