# SPDX-License-Identifier: Apache-2.0
"""Documents by the id and the name under which others refer to them; it must not judge them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from difflib import get_close_matches

from monitor.detection.source import Document, Step
from monitor.errors import RuleProblem


class Names:
    """Every rule, correlation and filter that was read, sound or not."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._by_id: dict[str, Document] = {}
        self._by_name: defaultdict[str, list[Document]] = defaultdict(list)
        for document in documents:
            if (identifier := id_of(document)) and "filter" not in document.data:
                self._by_id.setdefault(identifier, document)
                if name := str(document.data.get("name") or ""):
                    self._by_name[name].append(document)

    def find(
        self, reference: object, document: Document, *steps: Step
    ) -> tuple[Document | None, list[RuleProblem]]:
        """The document that is meant, or what is wrong with the reference at these steps."""
        text = str(reference)
        named = self._by_name.get(text, [])
        if found := self._by_id.get(text.lower()):
            return found, []
        if len(named) == 1:
            return named[0], []
        if named:
            where = ", ".join(f"{one.file}:{one.line('name')}" for one in named)
            message = f"`{text}` is the name of {len(named)} rules: {where}"
            return None, [document.problem(message, *steps, mend="use an id")]
        near = get_close_matches(text, self._by_name, n=1)
        mend = f"did you mean `{near[0]}`?" if near else "name one that is loaded with it"
        message = f"no rule has the id or name `{text}`"
        return None, [document.problem(message, *steps, mend=mend)]


def id_of(document: Document) -> str:
    """The id as it is compared."""
    return str(document.data.get("id", "")).lower()
