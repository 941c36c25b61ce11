# SPDX-License-Identifier: Apache-2.0
"""An example of every operation that was run against a real monitor: one file each, by operation id.

The files are written by tests/e2e/test_api_examples.py, which also runs each again. The OpenAPI
description and docs/api.md take them from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from monitor.incidents import Role

_FILES = Path(__file__).parent

EVENTS, LINES, PLAIN, BUNDLE = (
    "text/event-stream",
    "application/x-ndjson",
    "text/plain",
    "application/zstd",
)


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request and the answer that it got.

    `role` is the least that may ask it: who had less was told 403. With `socket_only` nobody may
    over TCP. `answer` is the JSON; of a stream or a text its first events or lines; of an archive
    what is in it. Long lists are cut.
    """

    role: Role
    socket_only: bool = False
    path: dict[str, str] = {}
    query: dict[str, str | int | bool] = {}
    headers: dict[str, str] = {}
    body: Any = None
    status: int
    media_type: str
    answer: Any


_DECODER = msgspec.json.Decoder(Example)


def of(operation: str) -> Example | None:
    """The example of one operation, if there is one."""
    file = _file(operation)
    return _DECODER.decode(file.read_bytes()) if file.exists() else None


def write(operation: str, example: Example) -> None:
    """Put it into its file."""
    _file(operation).write_bytes(msgspec.json.format(msgspec.json.encode(example)) + b"\n")


def known() -> set[str]:
    """Ids of the operations that have one."""
    return {file.stem for file in _FILES.glob("*.json")}


def show_in(operation: dict[str, Any]) -> None:
    """Put the example into an operation of the OpenAPI document; one of an older API is left out."""
    example = of(operation["operationId"])
    if example is None:
        return
    given = {**example.path, **example.query, **example.headers}
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in given:
            parameter["example"] = given[parameter["name"]]
    if example.body is not None and "requestBody" in operation:
        _add(operation["requestBody"]["content"]["application/json"], example.body)
    answer = operation["responses"].get(str(example.status), {})
    if example.media_type in answer.get("content", {}):
        _add(answer["content"][example.media_type], _value(example))


def _file(operation: str) -> Path:
    return _FILES / f"{operation}.json"


def _add(content: dict[str, Any], value: object) -> None:
    content["examples"] = {"run": {"summary": "As it was run.", "value": value}}


def _value(example: Example) -> object:
    """The answer as its schema has it: of a stream of events, what one of them carries."""
    if example.media_type == EVENTS:
        return example.answer[-1]["data"]
    return text(example) if example.media_type in {LINES, PLAIN, BUNDLE} else example.answer


def text(example: Example) -> str:
    """The answer as a terminal shows it."""
    match example.media_type:
        case "text/event-stream":
            return "\n".join(_event(**event) for event in example.answer)
        case "application/x-ndjson":
            return "".join(f"{_json(line)}\n" for line in example.answer)
        case "text/plain" | "application/zstd":
            return "".join(f"{line}\n" for line in example.answer)
        case _:
            return msgspec.json.format(_json(example.answer)) + "\n"


def _event(*, event: str, id: str, data: Any) -> str:  # noqa: A002, ANN401 - as the stream has it
    return f"event: {event}\nid: {id}\ndata:{' ' + _json(data) if data else ''}\n"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
