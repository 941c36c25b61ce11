# SPDX-License-Identifier: Apache-2.0
"""What a document of any kind says of itself, as a `Rule`; it must not judge it."""

from __future__ import annotations

from typing import Any

from monitor.alerts import Level, Response, Rule
from monitor.detection.names import id_of
from monitor.detection.source import Document


def rule(document: Document, category: str) -> Rule:
    """Sigma lets a rule go without a level: it is then taken for `medium`."""
    data = document.data
    given = data.get("level")
    level = Level(given) if given in list(Level) else Level.MEDIUM
    default = Response.LOG if level is Level.INFORMATIONAL else Response.ALERT
    response = data.get("response", default)
    return Rule(
        id=id_of(document),
        title=str(data.get("title") or ""),
        level=level,
        response=Response(response) if response in list(Response) else default,
        category=category,
        name=str(data.get("name") or ""),
        author=str(data.get("author") or ""),
        description=str(data.get("description") or "").strip(),
        tags=_texts(data.get("tags")),
        falsepositives=_texts(data.get("falsepositives")),
        file=document.file,
    )


def _texts(given: Any) -> tuple[str, ...]:  # noqa: ANN401 -- whatever YAML holds there
    return tuple(map(str, given)) if isinstance(given, list) else ()
