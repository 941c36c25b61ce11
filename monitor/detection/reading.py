# SPDX-License-Identifier: Apache-2.0
"""Documents to signatures and correlations, and what is wrong with the others; it reads no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from monitor.alerts import Rule
from monitor.detection import blame, community, heading, sigma, strict
from monitor.detection.condition import Condition
from monitor.detection.correlation import CATEGORY, Correlation
from monitor.detection.filters import Filters
from monitor.detection.filters import read as read_filters
from monitor.detection.fold import FALSE, Decide, fold, holds, leaves
from monitor.detection.graph import link_all
from monitor.detection.names import Names, id_of
from monitor.detection.ruleset import InactiveRule, Signature
from monitor.detection.source import Document
from monitor.detection.variables import expand, mentioned
from monitor.errors import RuleProblem
from monitor.fields import CATEGORIES

Variables = Mapping[str, Sequence[str]]

NO_VARIABLES: Final[Variables] = MappingProxyType({})


@dataclass(slots=True)
class Reading:
    """What the files gave so far: sound signatures, and everything that is wrong."""

    signatures: list[Signature] = field(default_factory=list)
    inactive: list[InactiveRule] = field(default_factory=list)
    problems: list[RuleProblem] = field(default_factory=list)
    digest: str = ""
    correlations: list[Correlation] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    """Why community documents were not looked at -> how many."""
    filters: Filters = field(default_factory=Filters)


def judge(reading: Reading, documents: Sequence[Document], given: Variables) -> None:
    """Rules first: whether a correlation can fire depends on those it refers to."""
    ours = []
    for document in documents:
        if community.is_foreign(document) and (why := community.passed_over(document)):
            reading.passed_over[why] += 1
        else:
            ours.append(document)
    taken = _taken_ids(ours)
    doubles = {id(one): one for one in ours if id(one) in taken and _may_be_off(one)}
    ours = [one for one in ours if id(one) not in doubles]
    for identity, document in doubles.items():
        category = CATEGORY if "correlation" in document.data else _category(document)
        _fault(reading, document, category, taken[identity])
    names = Names(ours)
    filters = [one for one in ours if "filter" in one.data and id(one) not in taken]
    reading.filters = read_filters(filters, names, given)
    reading.problems += reading.filters.problems
    reading.inactive += reading.filters.inactive
    for document in ours:
        if not {"correlation", "filter"} & document.data.keys():
            _rule(reading, document, given, taken.get(id(document), []))
    _correlations(reading, ours, names, taken)


def _correlations(
    reading: Reading,
    documents: Sequence[Document],
    names: Names,
    taken: Mapping[int, list[RuleProblem]],
) -> None:
    correlations = [one for one in documents if "correlation" in one.data]
    off = {one.rule.id: one.rule.title for one in reading.inactive}
    own = [document for document in correlations if id(document) not in taken]
    linked = link_all(own, names, off)
    reading.correlations = linked.correlations
    reading.inactive += linked.inactive
    for document, problems in linked.faults:
        _fault(reading, document, CATEGORY, problems)
    others = [one for one in documents if {"correlation", "filter"} & one.data.keys()]
    reading.problems += [one for document in others for one in taken.get(id(document), [])]


def _may_be_off(document: Document) -> bool:
    """A filter has no `response` either, and what it takes out would fire without a word."""
    return community.is_foreign(document) and "filter" not in document.data


def _taken_ids(documents: Sequence[Document]) -> dict[int, list[RuleProblem]]:
    """A problem for each document (by its own `id()`) whose id another one had before.

    Who copies a community rule to give it a response means the copy, wherever it lies.
    """
    first: dict[str, str] = {}
    taken = {}
    for document in sorted(documents, key=_may_be_off):
        place = f"{document.file}:{document.line('id')}"
        identifier = id_of(document)
        if identifier and first.setdefault(identifier, place) != place:
            message = f"the id `{identifier}` belongs to the rule at {first[identifier]}"
            mend = "give one of them its own"
            taken[id(document)] = [document.problem(message, "id", mend=mend)]
    return taken


def _fault(
    reading: Reading, document: Document, category: str, problems: list[RuleProblem]
) -> None:
    """A rule that asks for a response is an error; of a foreign one it is told why it is off."""
    if community.is_foreign(document):
        rule = heading.rule(document, category)
        reading.inactive.append(InactiveRule(rule, community.reason(problems)))
    else:
        reading.problems += problems


def _rule(reading: Reading, document: Document, given: Variables, taken: list[RuleProblem]) -> None:
    """One rule, of which these problems are known."""
    foreign = community.is_foreign(document)
    problems = list(strict.check(document, given, foreign=foreign))
    missing = sorted(n for n in mentioned(document.data.get("detection")) if not given.get(n))
    if not problems and not taken and not missing:
        problems = _compile(reading, document, given)
    elif not problems and not taken:
        reason = " and ".join(f"%{name}%" for name in missing) + " has no value on this host"
        reading.inactive.append(InactiveRule(_heading(document), reason))
    reading.problems += taken
    if problems and not taken:
        _fault(reading, document, _category(document), problems)
    elif problems:
        reading.problems += problems


def _compile(reading: Reading, document: Document, given: Variables) -> list[RuleProblem]:
    foreign = community.is_foreign(document)
    detection = expand(document.data["detection"], given)
    parsed = sigma.parse({**_judged(document, foreign=foreign), "detection": detection})
    if parsed.errors:
        return blame.problems(document, parsed.errors, given)
    unused = [
        document.problem(f"`{name}` is not used by the condition", "detection", name)
        for name in sigma.unused(parsed)
        if not foreign
    ]
    try:
        condition = sigma.condition(parsed)
    except sigma.NotCompilableError as error:
        return blame.problems(document, [error], given)
    if foreign and (missing := _unfilled(condition, _category(document))):
        condition = fold(condition, _null_where(missing))
        if condition == FALSE:
            names = ", ".join(f"`{name}`" for name in missing)
            return [document.problem(f"it needs {names}, not filled here", "detection")]
    if not unused:
        rule = _heading(document)
        condition = reading.filters.narrow(condition, rule)
        reading.signatures.append(Signature(rule, condition, document.line("response")))
    return unused


def _judged(document: Document, *, foreign: bool) -> dict[str, Any]:
    """What Sigma's own rules are held against: a wrong date does not make a foreign rule worse."""
    keys = {"title", "logsource"} if foreign else document.data.keys()
    return {key: value for key, value in document.data.items() if key in keys}


def _unfilled(condition: Condition, category: str) -> list[str]:
    """Fields that are not filled here: to a foreign rule they are null, and may be all it has."""
    filled = CATEGORIES[category]
    named = [field for leaf in leaves(condition) for field in leaf.fields]
    return list(dict.fromkeys(field for field in named if field not in filled))


def _null_where(missing: Sequence[str]) -> Decide:
    return lambda leaf: holds(leaf, None) if set(missing) & set(leaf.fields) else None


def _category(document: Document) -> str:
    logsource = document.data.get("logsource")
    return str(logsource.get("category", "")) if isinstance(logsource, dict) else ""


def _heading(document: Document) -> Rule:
    return heading.rule(document, _category(document))
