# SPDX-License-Identifier: Apache-2.0
"""Evaluates facts against the current rule set; it must not act on what it finds."""

from __future__ import annotations

from collections import Counter, defaultdict

from monitor.alerts import Rule
from monitor.detection.compile import Program, build
from monitor.detection.ruleset import RuleSet, Signature
from monitor.fields import Fact


class Engine:
    """The compiled rule set. `replace` swaps it whole, between two evaluations.

    `errors` counts, per rule id, evaluations that raised: the rule did not fire then, the others
    did. It survives `replace`.
    """

    def __init__(self, ruleset: RuleSet) -> None:
        self.errors: dict[str, int] = Counter()
        self.replace(ruleset)

    def replace(self, ruleset: RuleSet) -> None:
        """Use these signatures from the next fact on. If they do not compile, the old ones stay."""
        programs = _programs(ruleset)
        self.ruleset = ruleset
        self._programs = programs

    def evaluate(self, fact: Fact) -> list[Rule]:
        """Every rule the fact matches, the strongest response first."""
        program = self._programs.get(fact.category)
        return program(fact.fields, self._failed) if program else []

    def _failed(self, rule_id: str) -> None:
        self.errors[rule_id] += 1


def _programs(ruleset: RuleSet) -> dict[str, Program]:
    by_category: defaultdict[str, list[Signature]] = defaultdict(list)
    for signature in sorted(ruleset.signatures, key=_strongest_first):
        by_category[signature.rule.category].append(signature)
    return {category: build(signatures) for category, signatures in by_category.items()}


def _strongest_first(signature: Signature) -> tuple[int, str]:
    return -signature.rule.response.rank, signature.rule.id
