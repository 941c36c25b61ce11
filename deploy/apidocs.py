# SPDX-License-Identifier: Apache-2.0
"""Writes docs/api.md from the API's own description and the examples that were run: `apidocs.py FILE`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from monitor.api import examples
from monitor.api.app import description
from monitor.api.examples import Example
from monitor.api.problems import STATUS, kind_of
from monitor.config import DEFAULT_RUNTIME_DIR

Node = Mapping[str, Any]
"""A part of the OpenAPI document."""

_SOCKET = DEFAULT_RUNTIME_DIR / "estop.sock"
_TITLES = {
    "sessions": "Sessions",
    "incidents": "Incidents",
    "grants": "Grants",
    "alerts": "Alerts",
    "monitor": "The monitor",
    "tokens": "Tokens",
}
_LANGUAGES = {"application/json": "json", examples.LINES: "json"}
_OPENING = """\
<!-- Written by deploy/apidocs.py from what `make examples` ran; do not edit it by hand. -->

# The API of estop

{about}

`GET /api/v1/openapi.json` has the same for programs. Each call below names the least role that is
enough. Each was run against a real monitor with a token of that role, on a day when an agent named
`coder` tried to write /etc/hosts and was frozen; then ids, times and places were replaced, and long
lists cut to their first three. What is shown is the same call over the unix socket; over TCP it is

```sh
curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:7878/api/v1/me
```

Alerts and incidents are paged with `limit`, and `before` or `since` set to the `next` of the page
before; their streams are resumed with the header `Last-Event-ID`.

## When it is refused

The answer is `application/problem+json` with `type`, `title`, `status`, `detail` and `mend`: `type` is
for programs and stays, `detail` says why and `mend` what to do. After an act, a 503 says in `detail`
that it is done, but not yet recorded. Who may not come in hears `no-token`, `wrong-token`, `role`,
`supervised`, `caller-gone`, `host` or `too-many-requests`; what cannot be read is `bad-body`,
`bad-parameters` or `http`; the rest is

| Type | Status |
|---|---|
{problems}
"""


def main() -> None:
    """Into the file."""
    Path(sys.argv[1]).write_text("\n".join(_page(description())), encoding="utf-8")


def _page(document: Node) -> Iterator[str]:
    yield _OPENING.format(about=document["info"]["description"], problems="\n".join(_problems()))
    schemas = document["components"]["schemas"]
    for tag, title in _TITLES.items():
        yield f"## {title}\n"
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if tag in operation["tags"]:
                    yield from _operation(method.upper(), path, operation, schemas)


def _problems() -> Iterator[str]:
    for kind, status in sorted(
        {kind_of(error): status for error, status in STATUS.items()}.items()
    ):
        yield f"| `urn:estop:problem:{kind}` | {status} {HTTPStatus(status).phrase} |"


def _operation(method: str, path: str, operation: Node, schemas: Node) -> Iterator[str]:
    example = examples.of(operation["operationId"])
    if example is None:
        raise SystemExit(f"{operation['operationId']} has no example: run `make examples`")
    yield f"### `{method} {path}`\n"
    over = ", over the unix socket only" if example.socket_only else ""
    yield f"{operation['description']} Role: **{example.role}**{over}.\n"
    yield from _table("Parameter", [_parameter(one) for one in operation.get("parameters", ())])
    if "requestBody" in operation:
        schema = _resolved(
            operation["requestBody"]["content"]["application/json"]["schema"], schemas
        )
        yield f"The body: {schema['description']}\n"
        yield from _table("Body", [_member(schema, name, schemas) for name in schema["properties"]])
    yield f"```sh\n{_curl(method, path, example)}\n```\n"
    answer = operation["responses"][str(example.status)]
    yield f"{example.status} `{example.media_type}`: {answer['description']}\n"
    yield f"```{_LANGUAGES.get(example.media_type, 'text')}\n{examples.text(example).rstrip()}\n```\n"


# Parameters and bodies ------------------------------------------------------------------------------


def _table(what: str, rows: list[tuple[str, str, str]]) -> Iterator[str]:
    if rows:
        lines = [f"| {what} | Is | Means |", "|---|---|---|"]
        yield "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _parameter(parameter: Node) -> tuple[str, str, str]:
    schema = parameter["schema"]
    where = {"query": "", "path": " in the path", "header": " in the header"}[parameter["in"]]
    default = f", default `{json.dumps(schema['default'])}`" if "default" in schema else ""
    return (
        f"`{parameter['name']}`{where}",
        f"{_type(schema)}{default}",
        parameter.get("description", ""),
    )


def _member(schema: Node, name: str, schemas: Node) -> tuple[str, str, str]:
    member = schema["properties"][name]
    needed = name in schema.get("required", ())
    known = f", default `{json.dumps(member['default'])}`" if "default" in member else ""
    words = _resolved(member, schemas).get("enum")
    means = "one of " + ", ".join(f"`{word}`" for word in words) if words else ""
    return f"`{name}`", f"{_type(member)}{', needed' if needed else known}", means


def _type(schema: Node) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("format") or schema["type"])


def _resolved(schema: Node, schemas: Node) -> Node:
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


# The command ----------------------------------------------------------------------------------------


def _curl(method: str, path: str, example: Example) -> str:
    for name, value in example.path.items():
        path = path.replace(f"{{{name}}}", quote(value))
    query = urlencode({name: _word(value) for name, value in example.query.items()})
    words = ["curl", "--unix-socket", str(_SOCKET)]
    words += ["-X", method] if method != "GET" else []
    words += ["-N"] if example.media_type in {examples.EVENTS, examples.LINES} else []
    for name, value in example.headers.items():
        words += ["-H", f"{name}: {value}"]
    if example.body is not None:
        words += ["-d", json.dumps(example.body)]
    url = f"http://localhost{path}{'?' if query else ''}{query}"
    command = shlex.join([*words, url])
    return f"{command} | tar --zstd -t" if example.media_type == examples.BUNDLE else command


def _word(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
