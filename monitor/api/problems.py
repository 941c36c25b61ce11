# SPDX-License-Identifier: Apache-2.0
"""Errors as application/problem+json (RFC 9457): what went wrong and how to mend it, in one table.

It must not tell a caller more than the error's own words; a fault of ours says only that it is one.
"""

from __future__ import annotations

import http
import re

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from monitor import errors
from monitor.record.encode import to_json

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[errors.EstopError], int] = {
    errors.EstopError: 500,
    errors.ConfigError: 500,
    errors.RequirementError: 503,
    errors.RuleError: 422,
    errors.SessionNotFoundError: 404,
    errors.AmbiguousSessionError: 409,
    errors.RecordNotFoundError: 404,
    errors.SessionStateError: 409,
    errors.GuardError: 409,
    errors.AttachError: 422,
    errors.NotAllowedError: 403,
    errors.StoreError: 503,
    errors.CaptureError: 503,
    errors.RecordingError: 409,
}
"""Every error estop raises on purpose; a test sees to it that none is missing."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One refusal. `type` is stable and for programs; `detail` and `mend` are for people."""

    type: str
    title: str
    status: int
    detail: str
    mend: str


def problem(
    status: int, kind: str, detail: str, mend: str = "", headers: dict[str, str] | None = None
) -> Response:
    """The answer for one refusal."""
    body = Problem(
        type=f"urn:estop:problem:{kind}",
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        mend=mend,
    )
    return Response(to_json(body), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def kind_of(error: type[errors.EstopError]) -> str:
    """`SessionNotFoundError` -> `session-not-found`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__.removesuffix("Error")).lower()


def install(app: FastAPI) -> None:
    """Every way in which a request can fail, and its answer."""
    app.add_exception_handler(errors.EstopError, _estop_error)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(msgspec.MsgspecError, _bad_body)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)


async def _estop_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.EstopError)
    return problem(STATUS[type(error)], kind_of(type(error)), str(error), error.mend)


async def _bad_parameters(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    detail = "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
    )
    return problem(422, "bad-parameters", detail, "see /api/v1/openapi.json")


async def _bad_body(_request: Request, error: Exception) -> Response:
    return problem(400, "bad-body", str(error), "see /api/v1/openapi.json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path}: {error.detail}"
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, "http", detail, "see /api/v1/openapi.json", headers)


async def _fault(_request: Request, _error: Exception) -> Response:
    # Starlette raises the exception again after this answer, so that the server logs it.
    return problem(500, "fault", "the monitor failed to answer", "see the monitor's log")
