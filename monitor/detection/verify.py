# SPDX-License-Identifier: Apache-2.0
"""What can be proved wrong with a set of sound rules; it must not tell what it cannot prove.

Three things are looked for: a rule that no event satisfies; one that only what it takes out
(`not`, a filter document) keeps from ever firing; and one of which every match is told by another
rule of at least the same response, so that it adds nothing but a second alert.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

import msgspec

from monitor.detection.condition import AllOf, AnyOf, Condition, Leaf, Match, Not
from monitor.detection.filters import Filter
from monitor.detection.fold import TRUE, fold, leaves
from monitor.detection.prover import Prover
from monitor.detection.reading import Reading
from monitor.detection.ruleset import Signature

LIMIT_S = 5.0
"""For one question. Those of the shipped rules take some milliseconds."""

_SHOWN = 3
"""Reasons that are told of a rule that cannot fire."""

Progress = Callable[[int, int], None]
"""(rules done, rules there are)"""


class Kind(StrEnum):
    """What is wrong with a rule."""

    DEAD = "dead"
    SWALLOWED = "swallowed"
    SHADOWED = "shadowed"
    """Advice: all rules that match are told."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was proved. `by` names the other rule or the filter's file, if there is one."""

    kind: Kind
    rule: str
    file: str
    line: int
    message: str
    by: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: `{self.rule}` {self.message}"


class Verdict(msgspec.Struct, kw_only=True):
    """What was found, and the questions that were not answered within their time."""

    rules: int
    findings: list[Finding] = []
    undecided: list[str] = []


def verify(
    reading: Reading, progress: Progress, *, limit_s: float = LIMIT_S, pairs: bool = True
) -> Verdict:
    """Every finding about the rules that were read. `RequirementError` if there is no z3.

    Without `pairs`, which grow with the square of the rules, no shadow is looked for.
    """
    verdict = Verdict(rules=len(reading.signatures))
    # A rule that only feeds a correlation is not told, so it adds nothing to another one's alert.
    fed = {id_ for one in reading.correlations for id_ in one.references}
    by_category: dict[str, list[Signature]] = defaultdict(list)
    for signature in reading.signatures:
        by_category[signature.rule.category].append(signature)
    done = 0
    for signatures in by_category.values():
        prover = Prover(limit_s)
        filters = reading.filters.filters
        living = [one for one in signatures if _can_fire(prover, one, filters, verdict)]
        telling = [one for one in living if one.rule.id not in fed] if pairs else []
        for number, signature in enumerate(telling):
            progress(done + number, verdict.rules)
            _shadowed(prover, signature, telling, verdict)
        done += len(signatures)
    progress(done, verdict.rules)
    return verdict


def _can_fire(
    prover: Prover, signature: Signature, filters: Sequence[Filter], verdict: Verdict
) -> bool:
    possible = prover.possible(signature.condition)
    if possible is None:
        verdict.undecided.append(f"whether `{_name(signature)}` can fire")
    if possible is False:
        verdict.findings.append(_why(prover, signature, filters))
    return possible is True


def _why(prover: Prover, signature: Signature, filters: Sequence[Filter]) -> Finding:
    """What keeps a rule from firing: a filter document, what it takes out itself, or all of it."""
    pairs = prover.core
    own = signature.condition
    applied = [one for one in filters if signature.rule in one.narrowed]
    if applied and isinstance(own, AllOf):
        own = own.terms[0]  # as `Filters.narrow` put it
        if prover.possible(own):
            alone = [f for f in applied if prover.possible(AllOf((own, f.condition))) is False]
            by = ", ".join(f.document.file for f in alone or applied)
            return _found(Kind.SWALLOWED, signature, f"can never fire: {by} takes all of it", by=by)
    denials = list(_denials(own))
    if denials and prover.possible(_without(own, denials)):
        alone_ = [one for one in denials if prover.possible(_without(own, [one]))]
        what = "; ".join(_fields(one) for one in alone_ or denials)
        message = f"can never fire: `not` takes all of it (what is said of {what})"
        return _found(Kind.SWALLOWED, signature, message)
    reasons = [f"{_said(one)} and {_said(other)}" for one, other in pairs[:_SHOWN]]
    message = "can never fire: " + ("; ".join(reasons) or "it contradicts itself")
    return _found(Kind.DEAD, signature, message)


def _shadowed(
    prover: Prover, signature: Signature, others: Sequence[Signature], verdict: Verdict
) -> None:
    fields = {field for leaf in leaves(signature.condition) for field in leaf.fields}
    for other in others:
        weaker = other.rule.response.rank < signature.rule.response.rank
        if other is signature or weaker or _free(_at_leaves(other.condition), fields):
            continue
        apart = prover.possible(AllOf((signature.condition, Not(other.condition))))
        pair = f"`{_name(signature)}` is told by `{_name(other)}` too"
        if apart is None:
            verdict.undecided.append(f"whether all of {pair}")
        elif apart is False:
            message = f"adds nothing: `{_name(other)}` tells all that it matches, and as strongly"
            found = _found(Kind.SHADOWED, signature, message, by=_name(other))
            verdict.findings.append(found)


def _denials(condition: Condition) -> Iterator[Not]:
    """What a condition takes out. `not null` only says that there is a field."""
    match condition:
        case Not(Leaf(match=Match.NULL)):
            pass
        case Not():
            yield condition
        case AllOf(terms) | AnyOf(terms):
            for term in terms:
                yield from _denials(term)


def _without(condition: Condition, denials: Sequence[Not]) -> Condition:
    match condition:
        case Not():
            return TRUE if condition in denials else condition
        case AllOf(terms):
            return AllOf(tuple(_without(term, denials) for term in terms))
        case AnyOf(terms):
            return AnyOf(tuple(_without(term, denials) for term in terms))
    return condition


def _free(condition: Condition, fields: set[str]) -> bool:
    """Can it be made false by fields that the other rule says nothing of?

    Most pairs are told apart by that, without the prover.
    """
    match condition:
        case Leaf():
            return not fields.issuperset(condition.fields)
        case Not(term):
            return _free(term, fields)
        case AllOf(terms):
            return any(_free(term, fields) for term in terms)
        case AnyOf(terms):
            return all(_free(term, fields) for term in terms)


def _at_leaves(condition: Condition) -> Condition:
    """With `not` at the leaves only."""
    return fold(condition, lambda _: None)


def _found(kind: Kind, signature: Signature, message: str, *, by: str = "") -> Finding:
    rule = signature.rule
    return Finding(
        kind=kind,
        rule=_name(signature),
        file=rule.file,
        line=signature.line,
        message=message,
        by=by,
    )


def _name(signature: Signature) -> str:
    return signature.rule.name or signature.rule.title


def _fields(condition: Condition) -> str:
    return ", ".join(sorted({leaf.field for leaf in leaves(condition)}))


def _said(leaf: Leaf) -> str:
    return f"`{leaf.field}|{leaf.match}` `{leaf.value}`"
