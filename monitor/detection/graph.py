# SPDX-License-Identifier: Apache-2.0
"""Correlations together: what they refer to, in which order, and which of them can fire here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.detection import blame, heading, link, sigma_correlation
from monitor.detection.correlation import CATEGORY, Correlation
from monitor.detection.link import Draft
from monitor.detection.names import Names, id_of
from monitor.detection.ruleset import InactiveRule
from monitor.detection.source import Document
from monitor.detection.strict import did_you_mean
from monitor.errors import RuleProblem
from monitor.fields import CATEGORIES


@dataclass(slots=True)
class Linked:
    """The sound ones, those after which they refer to first, and the faults of each other one."""

    correlations: list[Correlation] = field(default_factory=list)
    inactive: list[InactiveRule] = field(default_factory=list)
    faults: list[tuple[Document, list[RuleProblem]]] = field(default_factory=list)


def link_all(
    documents: Sequence[Document], names: Names, off: Mapping[str, str], *, filled: bool = True
) -> Linked:
    """`off`: id of a rule that cannot fire here -> its title. With `filled`, fields are checked."""
    linked = Linked()
    drafts: dict[str, Draft] = {}
    for document in documents:
        problems = list(link.check(document))
        if not problems:
            draft = Draft(document, heading.rule(document, CATEGORY), names)
            drafts[draft.rule.id] = draft
            problems = draft.problems
            if not problems:
                found = sigma_correlation.errors(document.data)
                problems += blame.problems(document, found, {})
        if problems:
            linked.faults.append((document, problems))
    circles = {id_ for id_ in drafts if id_ in _below(id_, drafts)}
    silent = dict(off)
    broken = {id_of(document) for document, _ in linked.faults}
    for draft in sorted(drafts.values(), key=lambda draft: len(_below(draft.rule.id, drafts))):
        if draft.rule.id in broken:
            silent[draft.rule.id] = draft.rule.title
        elif draft.rule.id in circles:
            draft.wrong("it refers to itself, by way of others or not", "rules")
            linked.faults.append((draft.document, draft.problems))
        elif filled and (unknown := list(_unknown_fields(draft, drafts))):
            linked.faults.append((draft.document, unknown))
        elif draft.can_fire(set(silent)):
            linked.correlations.append(draft.correlation())
        else:
            silent[draft.rule.id] = draft.rule.title
            because = " and ".join(f"`{silent[id_]}`" for id_ in draft.ids if id_ in silent)
            linked.inactive.append(InactiveRule(draft.rule, f"{because} cannot fire here"))
    return linked


def _below(top: str, drafts: Mapping[str, Draft]) -> set[str]:
    """Everything that it refers to, by way of other correlations too."""
    found: set[str] = set()
    todo = [top]
    while todo:
        draft = drafts.get(todo.pop())
        for id_ in draft.ids if draft else ():
            if id_ not in found:
                found.add(id_)
                todo.append(id_)
    return found


def _unknown_fields(draft: Draft, drafts: Mapping[str, Draft]) -> Iterator[RuleProblem]:
    """A field that some rule's events never have would put them into a group of their own."""
    places = [("group-by", name) for name in draft.group_by]
    places += [("condition", name) for name in draft.counted]
    for key, name in places:
        for reference in draft.references:
            spelled = draft.aliases.get((name, id_of(reference)), name)
            categories = _categories(reference, drafts)
            for category in categories & CATEGORIES.keys():
                if spelled not in CATEGORIES[category]:
                    title = reference.data.get("title")
                    message = f"`{title}` has no field `{spelled}`: its events are {category}"
                    mend = did_you_mean(spelled, CATEGORIES[category])
                    steps = ("correlation", key)
                    yield draft.document.problem(message, *steps, mend=f"use `aliases`; {mend}")


def _categories(document: Document, drafts: Mapping[str, Draft]) -> set[str]:
    """The categories of the events that may be the last one of it."""
    everyone = [document]
    if (draft := drafts.get(id_of(document))) is not None:
        below = _below(draft.rule.id, drafts)
        everyone = [one for d in drafts.values() for one in d.references if id_of(one) in below]
    logsources = [one.data.get("logsource") for one in everyone]
    return {str(one.get("category")) for one in logsources if isinstance(one, dict)}
