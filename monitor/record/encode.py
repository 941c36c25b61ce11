# SPDX-License-Identifier: Apache-2.0
"""Structs to JSON at the boundary where an agent's text leaves the monitor; nothing may raise here.

An agent chooses its file names and arguments byte by byte, and JSON has no word for half of them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from monitor.text import printable

_ENCODER = msgspec.json.Encoder()


def to_json(value: object) -> bytes:
    """JSON of a struct or builtin, with undecodable bytes spelt out as `printable` does."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _ENCODER.encode(clean(msgspec.to_builtins(value)))


def clean(value: Any) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """The same tree of builtins with every string, keys included, made printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value


def words(value: object) -> str:
    """The strings and numbers in a tree of builtins, a line each: what a text search looks at."""
    if isinstance(value, dict):
        parts = [words(item) for item in value.values()]
    elif isinstance(value, (list, tuple)):
        parts = [words(item) for item in value]
    elif value is None or isinstance(value, bool):
        parts = []
    else:
        parts = [printable(str(value))]
    return "\n".join(part for part in parts if part)
