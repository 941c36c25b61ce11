# SPDX-License-Identifier: Apache-2.0
"""Sigma's filter documents: what they take out of the rules they name; they never add to one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monitor.alerts import Rule
from monitor.detection import blame, heading, sigma, strict
from monitor.detection.condition import AllOf, Condition
from monitor.detection.names import Names, id_of
from monitor.detection.ruleset import InactiveRule
from monitor.detection.source import Document
from monitor.detection.variables import expand, mentioned
from monitor.errors import RuleProblem

_ANY = "any"


@dataclass(slots=True)
class Filter:
    """A condition that rules need besides their own."""

    document: Document
    category: str
    rules: frozenset[str] | None
    """Ids; None for every rule of the category that does not stop or refuse."""
    condition: Condition
    narrowed: list[Rule] = field(default_factory=list)


@dataclass(slots=True)
class Filters:
    """The sound ones, and what is wrong with the others."""

    filters: list[Filter] = field(default_factory=list)
    problems: list[RuleProblem] = field(default_factory=list)
    inactive: list[InactiveRule] = field(default_factory=list)

    def narrow(self, condition: Condition, rule: Rule) -> Condition:
        """The condition of a rule with all that is taken out of it.

        A filter of any tree may say `any`. It must not weaken what stops an agent unless it names it.
        """
        found = []
        for one in self.filters:
            named = not rule.response.holds if one.rules is None else rule.id in one.rules
            if one.category == rule.category and named:
                one.narrowed.append(rule)
                found.append(one.condition)
        return AllOf((condition, *found)) if found else condition


def read(
    documents: Sequence[Document], names: Names, given: Mapping[str, Sequence[str]]
) -> Filters:
    """Every filter among the documents."""
    filters = Filters()
    for document in documents:
        problems = list(_faults(document, given))
        rules: frozenset[str] | None = None
        if not problems:
            rules, problems = _rules(document, names)
        missing = sorted(n for n in mentioned(document.data["filter"]) if not given.get(n))
        if not problems and missing:
            reason = " and ".join(f"%{name}%" for name in missing) + " has no value on this host"
            filters.inactive.append(InactiveRule(heading.rule(document, "filter"), reason))
        elif not problems:
            problems = _compile(filters, document, given, rules)
        filters.problems += problems
    return filters


def as_rule(document: Document) -> Document:
    """The filter in the shape of a rule, for those who know rules; its lines stay the same."""
    body = document.data["filter"]
    detection = {key: value for key, value in body.items() if key != "rules"}
    data = {key: value for key, value in document.data.items() if key != "filter"}
    return Document(document.file, document.node, {**data, "detection": detection}, "filter")


def _faults(document: Document, given: Mapping[str, Sequence[str]]) -> Iterator[RuleProblem]:
    if not isinstance(document.data["filter"], dict):
        yield document.problem("`filter` is a mapping", "filter")
        return
    yield from strict.check_filter(document, as_rule(document), given)


def _rules(document: Document, names: Names) -> tuple[frozenset[str] | None, list[RuleProblem]]:
    body: dict[str, Any] = document.data["filter"]
    rules = body.get("rules")
    if rules == _ANY:
        return None, []
    listed = [rules] if isinstance(rules, str) else rules
    if not isinstance(listed, list) or not listed:
        message = "a filter needs `rules`: names or ids, or `any`"
        return None, [document.problem(message, "filter", "rules")]
    found: set[str] = set()
    problems: list[RuleProblem] = []
    category = document.data["logsource"]["category"]
    for index, reference in enumerate(listed):
        steps = ("filter", "rules", index)
        one, wrong = names.find(reference, document, *steps)
        problems += wrong
        if one is None:
            continue
        found.add(id_of(one))
        logsource = one.data.get("logsource")
        theirs = logsource.get("category") if isinstance(logsource, dict) else "correlation"
        if theirs != category:
            message = f"`{reference}` is about {theirs}, and the filter about {category}"
            problems.append(document.problem(message, *steps))
    return frozenset(found), problems


def _compile(
    filters: Filters,
    document: Document,
    given: Mapping[str, Sequence[str]],
    rules: frozenset[str] | None,
) -> list[RuleProblem]:
    twin = as_rule(document)
    parsed = sigma.parse({**twin.data, "detection": expand(twin.data["detection"], given)})
    if parsed.errors:
        return blame.problems(twin, parsed.errors, given)
    try:
        condition = sigma.condition(parsed)
    except sigma.NotCompilableError as error:
        return blame.problems(twin, [error], given)
    category = document.data["logsource"]["category"]
    filters.filters.append(Filter(document, category, rules, condition))
    return [
        document.problem(f"`{name}` is not used by the condition", "filter", name)
        for name in sigma.unused(parsed)
    ]
