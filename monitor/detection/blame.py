# SPDX-License-Identifier: Apache-2.0
"""Finds the line that pySigma objects to, since its own errors carry none; it must not judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sigma import exceptions
from sigma.exceptions import SigmaError

from monitor.detection import sigma
from monitor.detection.source import Document, Step
from monitor.detection.variables import entry
from monitor.errors import RuleProblem

_KEYS: dict[type[SigmaError], str] = {
    exceptions.SigmaTitleError: "title",
    exceptions.SigmaNameError: "name",
    exceptions.SigmaTaxonomyError: "taxonomy",
    exceptions.SigmaRelatedError: "related",
    exceptions.SigmaStatusError: "status",
    exceptions.SigmaDescriptionError: "description",
    exceptions.SigmaLicenseError: "license",
    exceptions.SigmaReferencesError: "references",
    exceptions.SigmaAuthorError: "author",
    exceptions.SigmaDateError: "date",
    exceptions.SigmaModifiedError: "modified",
    exceptions.SigmaFieldsError: "fields",
    exceptions.SigmaFalsePositivesError: "falsepositives",
    exceptions.SigmaScopeError: "scope",
    exceptions.SigmaLogsourceError: "logsource",
}
"""The key of a rule that each kind of error is about; any other kind is about the detection."""


def problems(
    document: Document, errors: Sequence[Exception], given: Mapping[str, Sequence[str]]
) -> list[RuleProblem]:
    """One problem per error about a key, and one per entry of the detection that is at fault."""
    found: list[RuleProblem] = []
    about_detection = ""
    for error in errors:
        key = _KEYS.get(type(error)) if isinstance(error, SigmaError) else None
        if key is None:
            about_detection = str(error)
        else:
            found.append(document.problem(str(error), key))
    if about_detection and "correlation" in document.data:
        found.append(document.problem(about_detection, "correlation"))
    elif about_detection:
        entries = list(_entries(document, document.data["detection"], ("detection",), given))
        where = ("detection", "condition")
        found += entries or [document.problem(about_detection, *where)]
    return found


def _entries(
    document: Document,
    definition: object,
    steps: tuple[Step, ...],
    given: Mapping[str, Sequence[str]],
) -> Iterator[RuleProblem]:
    """Every field entry on its own, and every value of it: those that pySigma does not take."""
    if isinstance(definition, list):
        for index, one in enumerate(definition):
            yield from _entries(document, one, (*steps, index), given)
    elif isinstance(definition, dict):
        for key, value in definition.items():
            if isinstance(value, dict) or _is_list_of_mappings(value):
                yield from _entries(document, value, (*steps, key), given)
            elif steps != ("detection",):
                yield from _values(document, key, value, (*steps, key), given)


def _values(
    document: Document,
    key: str,
    value: object,
    steps: tuple[Step, ...],
    given: Mapping[str, Sequence[str]],
) -> Iterator[RuleProblem]:
    for index, one in enumerate(value if isinstance(value, list) else [value]):
        try:
            sigma.item(*entry(key, one, given))
        except sigma.NotCompilableError as error:
            at = (*steps, index) if isinstance(value, list) else steps
            yield document.problem(f"`{one}` cannot be used: {error}", *at)


def _is_list_of_mappings(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)
