# SPDX-License-Identifier: Apache-2.0
"""`estop rules check` as a pure function: what a rule set holds and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from monitor.alerts import Response, Rule
from monitor.detection.correlation import CATEGORY
from monitor.detection.loader import read
from monitor.detection.reading import NO_VARIABLES, Variables
from monitor.errors import RuleProblem
from monitor.fields import CATEGORIES


class Inactive(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that is sound and off, and why."""

    rule: Rule
    reason: str


class Filtered(msgspec.Struct, frozen=True, kw_only=True):
    """A filter, and the titles of the rules that it narrows."""

    title: str
    file: str
    rules: tuple[str, ...]


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """`rules` are the sound ones that can fire; they only run if there is no problem at all."""

    rules: tuple[Rule, ...]
    by_response: dict[str, int]
    by_category: dict[str, int]
    inactive: tuple[Inactive, ...]
    problems: tuple[RuleProblem, ...]
    digest: str
    filters: tuple[Filtered, ...]
    passed_over: dict[str, int]
    """Community rules that are not about what is seen here, by reason."""

    @property
    def ok(self) -> bool:
        """True if the set can be loaded."""
        return not self.problems


def check(paths: Sequence[Path], variables: Variables = NO_VARIABLES) -> CheckReport:
    """Read the rules as the daemon would, and report instead of raising."""
    reading = read(paths, variables)
    rules = (
        *(signature.rule for signature in reading.signatures),
        *(correlation.rule for correlation in reading.correlations),
    )
    return CheckReport(
        rules=rules,
        by_response=_count(Response, (rule.response for rule in rules)),
        by_category=_count((*CATEGORIES, CATEGORY), (rule.category for rule in rules)),
        inactive=tuple(Inactive(rule=off.rule, reason=off.reason) for off in reading.inactive),
        problems=tuple(reading.problems),
        digest=reading.digest,
        filters=tuple(
            Filtered(
                title=one.document.data["title"],
                file=one.document.file,
                rules=tuple(rule.title for rule in one.narrowed),
            )
            for one in reading.filters.filters
        ),
        passed_over=dict(reading.passed_over.most_common()),
    )


def _count(names: Iterable[str], found: Iterable[str]) -> dict[str, int]:
    """How often each name was found, in the order of the names, with its zeros."""
    counted = Counter(found)
    return {str(name): counted[name] for name in names}
