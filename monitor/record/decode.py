# SPDX-License-Identifier: Apache-2.0
"""JSON of the record back to structs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from monitor.alerts import ActionRecord, Alert
from monitor.incidents import Grant, Incident, Token
from monitor.subjects import Done, Labelled, Session

_KINDS = (ActionRecord, Alert, Done, Grant, Incident, Labelled, Session, Token)
# Made while one thread imports this. What msgspec 0.22 knows of a type it gathers at the first
# decoding, and a second thread that decodes it meanwhile reads through a null pointer.
_DECODERS: Mapping[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in _KINDS
}
_EVIDENCE = msgspec.json.Decoder(dict[str, Any])

T = TypeVar("T")


def from_json(kind: type[T], json: bytes) -> T:
    """One of the structs that are recorded."""
    found: T = _DECODERS[kind].decode(json)
    return found


def evidence_from(json: bytes | None) -> dict[str, Any] | None:
    """As `response.evidence` collected it; None where there is none."""
    return None if json is None else _EVIDENCE.decode(json)
