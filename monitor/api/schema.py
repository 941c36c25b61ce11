# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI description, made from the very structs that are sent, so that it cannot differ.

msgspec writes the JSON schemas; FastAPI writes the paths; this joins the two.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from monitor.alerts import ActionRecord, Alert
from monitor.api import examples
from monitor.api.problems import MEDIA_TYPE, Problem
from monitor.control import (
    ActRequest,
    AssignRequest,
    AttachRequest,
    GrantRequest,
    Health,
    LaunchRequest,
    Me,
    NewToken,
    RuleChanges,
    RuleInForce,
    TokenRequest,
)
from monitor.incidents import Grant, Incident, Token
from monitor.record.account import Account
from monitor.record.queries import IncidentPage, Page
from monitor.subjects import Session

STRUCTS = (
    ActRequest,
    Account,
    ActionRecord,
    Alert,
    AssignRequest,
    AttachRequest,
    Grant,
    GrantRequest,
    Health,
    Incident,
    IncidentPage,
    LaunchRequest,
    Me,
    NewToken,
    Page,
    Problem,
    RuleChanges,
    RuleInForce,
    Session,
    Token,
    TokenRequest,
)

_MEANS = {
    "session": "Id or unique name.",
    "last-event-id": "Resume after this event.",
    **dict.fromkeys(("alert", "incident", "grant", "token"), "Id."),
}
"""Of parameters that mean the same everywhere."""

REFUSAL = {
    "description": "Refused; `detail` says why and `mend` what to do.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def reference(struct: type) -> dict[str, str]:
    """The schema of one struct, by name."""
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def list_of(struct: type) -> dict[str, Any]:
    """The schema of a list of one struct."""
    return {"type": "array", "items": reference(struct)}


def answers(
    schema: dict[str, Any], description: str, *, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route that answers with `schema` or refuses with a problem."""
    content = {"application/json": {"schema": schema}}
    return {status: {"description": description, "content": content}, "default": REFUSAL}


def takes(struct: type, *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra=` of a route that reads `struct` from the body."""
    content = {"application/json": {"schema": reference(struct)}}
    return {"requestBody": {"required": required, "content": content}}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole description; made once and kept."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        _, schemas = msgspec.json.schema_components(
            STRUCTS, ref_template="#/components/schemas/{name}"
        )
        components = document.setdefault("components", {})
        # Ours answer for FastAPI's own validation errors too: see problems.py.
        theirs = components.get("schemas", {})
        components["schemas"] = {
            name: schema
            for name, schema in {**theirs, **schemas}.items()
            if name not in {"HTTPValidationError", "ValidationError"}
        }
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        for operations in document["paths"].values():
            for operation in operations.values():
                _complete(operation)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(operation: dict[str, Any]) -> None:
    operation["responses"].pop("422", None)
    for response in operation["responses"].values():
        for content in response["content"].values():
            # To what a streaming route says of one event FastAPI adds that the stream is a string.
            if "$ref" in content["schema"]:
                content["schema"].pop("type", None)
    for parameter in operation.get("parameters", ()):
        parameter.setdefault("description", _MEANS.get(parameter["name"], ""))
    examples.show_in(operation)
