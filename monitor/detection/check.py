# SPDX-License-Identifier: Apache-2.0
"""`estop rules check` as a pure function: what a rule set holds and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from monitor.alerts import Response, Rule
from monitor.detection.loader import NO_VARIABLES, Variables, read
from monitor.errors import RuleProblem
from monitor.fields import CATEGORIES


class Inactive(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that is sound and off, and why."""

    rule: Rule
    reason: str


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """`rules` are the sound ones that can fire; they only run if there is no problem at all."""

    rules: tuple[Rule, ...]
    by_response: dict[str, int]
    by_category: dict[str, int]
    inactive: tuple[Inactive, ...]
    problems: tuple[RuleProblem, ...]
    digest: str

    @property
    def ok(self) -> bool:
        """True if the set can be loaded."""
        return not self.problems


def check(paths: Sequence[Path], variables: Variables = NO_VARIABLES) -> CheckReport:
    """Read the rules as the daemon would, and report instead of raising."""
    reading = read(paths, variables)
    rules = tuple(signature.rule for signature in reading.signatures)
    return CheckReport(
        rules=rules,
        by_response=_count(Response, (rule.response for rule in rules)),
        by_category=_count(CATEGORIES, (rule.category for rule in rules)),
        inactive=tuple(Inactive(rule=off.rule, reason=off.reason) for off in reading.inactive),
        problems=tuple(reading.problems),
        digest=reading.digest,
    )


def _count(names: Iterable[str], found: Iterable[str]) -> dict[str, int]:
    """How often each name was found, in the order of the names, with its zeros."""
    counted = Counter(found)
    return {str(name): counted[name] for name in names}
