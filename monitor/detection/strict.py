# SPDX-License-Identifier: Apache-2.0
"""What a rule must have and must not say, beyond what Sigma checks; every fault with its line.

Sigma lets a misspelt key or field pass, and such a rule would never fire. Here it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from uuid import UUID

from monitor.alerts import Level, Response
from monitor.detection import sigma, variables
from monitor.detection.sigma import MODIFIERS, SIGMA_MODIFIERS, TIME_MODIFIERS
from monitor.detection.source import Document, Step
from monitor.errors import RuleProblem
from monitor.fields import CATEGORIES

KEYS = (
    *("title", "id", "name", "taxonomy", "related", "status", "description", "license"),
    *("references", "author", "date", "modified", "tags", "logsource", "detection", "fields"),
    *("falsepositives", "level", "scope", "response"),
)
"""Sigma's own keys of a rule, and `response`."""

CORRELATION_KEYS = (
    *(key for key in KEYS if key not in {"logsource", "detection", "fields"}),
    *("correlation", "generate"),
)
"""The keys of a correlation. Sigma's text has `generate` below `correlation`, its schema beside it."""

FILTER_KEYS = (*(key for key in KEYS if key not in {"detection", "response"}), "filter")
"""The keys of a filter. What it takes out needs no response."""

_ACTION = "document actions (global, reset, repeat) are not supported"

_ANYWHERE = {"contains", "startswith", "endswith"}


def check(
    document: Document, given: Mapping[str, object], *, foreign: bool = False
) -> Iterator[RuleProblem]:
    """Every fault of one rule. `given` names the variables there are besides the known ones.

    A `foreign` rule may have keys and fields that are not known here, and no level.
    """
    if "action" in document.data:
        yield document.problem(_ACTION, "action")
        return
    if not foreign:
        yield from _keys(document, KEYS)
    yield from _identity(document, foreign=foreign)
    yield from _response(document)
    yield from _detection(document, given, foreign=foreign)


def _detection(
    document: Document, given: Mapping[str, object], *, foreign: bool
) -> Iterator[RuleProblem]:
    logsource = document.data.get("logsource")
    yield from _logsource(document, logsource)
    name = logsource.get("category") if isinstance(logsource, dict) else None
    fields = CATEGORIES.get(name) if isinstance(name, str) and not foreign else None
    known = {*variables.KNOWN, *given}
    yield from _Detection(document, fields, known).check()


def check_correlation(document: Document) -> Iterator[RuleProblem]:
    """Every fault of a correlation's head."""
    yield from _keys(document, CORRELATION_KEYS)
    yield from _identity(document, foreign=False)
    yield from _response(document)


def check_filter(
    document: Document, twin: Document, given: Mapping[str, object]
) -> Iterator[RuleProblem]:
    """Every fault of a filter; `twin` is the same in the shape of a rule."""
    yield from _keys(document, FILTER_KEYS)
    yield from _identity(document, foreign=True)
    yield from _detection(twin, given, foreign=False)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """A mend that offers the nearest word, or all of them where none is near."""
    choices = sorted(words)
    near = get_close_matches(word, choices, n=1)
    return f"did you mean `{near[0]}`?" if near else f"one of: {', '.join(choices)}"


def _keys(document: Document, known: tuple[str, ...]) -> Iterator[RuleProblem]:
    for key in document.data:
        if key not in known:
            yield document.problem(f"unknown key `{key}`", key, mend=did_you_mean(key, known))


def _identity(document: Document, *, foreign: bool) -> Iterator[RuleProblem]:
    data = document.data
    if not isinstance(data.get("title"), str) or not data["title"].strip():
        yield document.problem("a rule needs a `title`", "title")
    if "id" not in data:
        yield document.problem("a rule needs an `id`", mend="a UUID of your own: `uuidgen`")
    elif not _is_uuid(data["id"]):
        yield document.problem(f"the id `{data['id']}` is no UUID", "id", mend="use `uuidgen`")
    level = data.get("level")
    if level not in list(Level) and not (foreign and level is None):
        message = f"unknown level `{level}`" if "level" in data else "a rule needs a `level`"
        yield document.problem(message, "level", mend=did_you_mean(str(level), Level))
    if not foreign:
        yield from _tags(document)
        yield from _texts(document, "falsepositives")
        yield from _texts(document, "references")


def _texts(document: Document, key: str) -> Iterator[RuleProblem]:
    """`- The names: all the same` is a mapping to YAML, and nobody meant one."""
    texts = document.data.get(key) or []
    for index, text in enumerate(texts if isinstance(texts, list) else [texts]):
        if not isinstance(text, str):
            message = f"`{key}` holds something that is no text"
            yield document.problem(message, key, index, mend="put it in quotes")


def _tags(document: Document) -> Iterator[RuleProblem]:
    tags = document.data.get("tags", [])
    for index, tag in enumerate(tags if isinstance(tags, list) else [tags]):
        if not isinstance(tag, str) or "." not in tag:
            message = f"the tag `{tag}` has no namespace"
            yield document.problem(message, "tags", index, mend="e.g. `attack.impact`")


def _response(document: Document) -> Iterator[RuleProblem]:
    response = document.data.get("response")
    if "response" not in document.data or response in list(Response):
        return
    mend = did_you_mean(str(response), Response)
    yield document.problem(f"unknown response `{response}`", "response", mend=mend)


def _logsource(document: Document, logsource: object) -> Iterator[RuleProblem]:
    if not isinstance(logsource, dict):
        yield document.problem("a rule needs a `logsource` with `category`", "logsource")
        return
    if logsource.get("product") != "linux":
        steps = ("logsource", "product")
        yield document.problem("a rule needs `product: linux`: nothing else is seen", *steps)
    if "service" in logsource:
        message = f"the log of `{logsource['service']}` is not read"
        mend = "use a `category`"
        yield document.problem(message, "logsource", "service", mend=mend)
    elif (category := str(logsource.get("category"))) not in CATEGORIES:
        mend = did_you_mean(category, CATEGORIES)
        message = f"unknown logsource category `{category}`"
        yield document.problem(message, "logsource", "category", mend=mend)
    for key in logsource.keys() - {"product", "category", "service", "definition"}:
        yield document.problem(f"unknown key `{key}` in logsource", "logsource", key)


class _Detection:
    """The detection part of one rule. `fields` is None where the category is not known."""

    def __init__(
        self, document: Document, fields: Mapping[str, str] | None, known: set[str]
    ) -> None:
        self._document = document
        self._fields = fields
        self._variables = known

    def check(self) -> Iterator[RuleProblem]:
        detection = self._document.data.get("detection")
        if not isinstance(detection, dict):
            yield self._document.problem("a rule needs a `detection` mapping", "detection")
            return
        if not isinstance(detection.get("condition"), str):
            message = "a detection needs one `condition`, as text"
            yield self._document.problem(message, "detection", "condition")
        if detection.keys() == {"condition"}:
            yield self._document.problem("the detection looks for nothing", "detection")
        for name, definition in detection.items():
            if name != "condition":
                yield from self._definition(definition, ("detection", name))

    def _definition(self, definition: object, steps: tuple[Step, ...]) -> Iterator[RuleProblem]:
        """A mapping of fields, or a list of such mappings of which one must hold."""
        if isinstance(definition, dict) and definition:
            plain = [_unexpanded(key) for key in definition]
            for key, value in definition.items():
                yield from self._entry(key, value, (*steps, key))
                if plain.count(_unexpanded(key)) > 1:
                    message = f"`{key}` stands beside its twin with `|expand`"
                    mend = "put them into two detections"
                    yield self._document.problem(message, *steps, key, mend=mend)
        elif isinstance(definition, list) and definition:
            for index, one in enumerate(definition):
                yield from self._definition(one, (*steps, index))
        elif definition in ({}, [], None):
            yield self._document.problem(f"`{steps[-1]}` is empty", *steps)
        else:
            message = "a value without a field cannot be looked for in an event"
            yield self._document.problem(message, *steps, mend="name the field")

    def _entry(self, key: str, value: object, steps: tuple[Step, ...]) -> Iterator[RuleProblem]:
        field, *modifiers = key.split("|")
        if self._fields is not None and field not in self._fields:
            mend = did_you_mean(field, self._fields)
            yield self._document.problem(f"unknown field `{field}`", *steps, mend=mend)
        yield from self._modifiers(modifiers, steps)
        if value == []:
            yield self._document.problem(f"`{key}` has no value", *steps)
        for index, one in enumerate(value if isinstance(value, list) else [value]):
            at = (*steps, index) if isinstance(value, list) else steps
            yield from self._value(one, set(modifiers), at)

    def _modifiers(self, modifiers: list[str], steps: tuple[Step, ...]) -> Iterator[RuleProblem]:
        for modifier in modifiers:
            if modifier in MODIFIERS:
                continue
            if modifier in TIME_MODIFIERS:
                message = f"`{modifier}` asks for a part of a time, and no field holds a time"
            elif modifier in SIGMA_MODIFIERS:
                message = f"the modifier `{modifier}` is not supported by this version"
            else:
                message = f"unknown modifier `{modifier}`"
            mend = did_you_mean(modifier, MODIFIERS)
            yield self._document.problem(message, *steps, mend=mend)
        if {"cased", "fieldref"} <= set(modifiers):
            message = "`fieldref` compares without regard to case"
            yield self._document.problem(message, *steps, mend="leave out `cased`")
        if "re" in modifiers and _ANYWHERE & set(modifiers):
            message = "`re` looks anywhere by itself"
            yield self._document.problem(message, *steps, mend="anchor it with `^` and `$`")

    def _value(
        self, value: object, modifiers: set[str], steps: tuple[Step, ...]
    ) -> Iterator[RuleProblem]:
        problem = self._document.problem
        if isinstance(value, (dict, list)):
            yield problem(f"`{value}` is no single value", *steps)
            return
        if _ANYWHERE & modifiers and isinstance(value, str) and not value.strip("*"):
            yield problem(f"`{value}` is in every value", *steps, mend="use `|exists: true`")
        if "fieldref" in modifiers and self._fields is not None and value not in self._fields:
            mend = did_you_mean(str(value), self._fields)
            yield problem(f"unknown field `{value}`", *steps, mend=mend)
        if "re" in modifiers and (fault := sigma.expression_fault(value)):
            yield problem(fault, *steps, mend="RE2 syntax; a number needs quotes")
        mentioned = variables.names(value)
        if "expand" in modifiers:
            for name in sorted(mentioned - self._variables):
                mend = did_you_mean(name, self._variables)
                yield problem(f"unknown variable `%{name}%`", *steps, mend=mend)
            if not mentioned:
                yield problem(f"`{value}` names no variable", *steps, mend="leave out `|expand`")
        elif mentioned & self._variables:
            yield problem(f"`{value}` is taken as it stands", *steps, mend="add `|expand`")


def _unexpanded(key: str) -> str:
    return "|".join(part for part in key.split("|") if part != "expand")


def _is_uuid(value: object) -> bool:
    try:
        return str(UUID(str(value))) == str(value).lower()
    except ValueError:
        return False
