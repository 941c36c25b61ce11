# SPDX-License-Identifier: Apache-2.0
"""Evaluates facts against the current rule set; it must not act on what it finds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from monitor.alerts import Rule
from monitor.detection.correlate import Correlator, Matches
from monitor.detection.program import Program, build
from monitor.detection.ruleset import RuleSet, Signature
from monitor.fields import Fact


class Engine:
    """The compiled rule set. `replace` swaps it whole, between two evaluations.

    `errors` counts, per rule id (or `correlations`), what raised: it did not fire then, the others
    did. It survives `replace`.
    """

    def __init__(self, ruleset: RuleSet) -> None:
        self.errors: dict[str, int] = Counter()
        self._correlator: Correlator | None = None
        self.replace(ruleset)

    def replace(self, ruleset: RuleSet) -> None:
        """Use these signatures from the next fact on. If they do not compile, the old ones stay.

        A correlation that stays the same keeps what it remembers.
        """
        programs = _programs(ruleset)
        titles = {rule.id: rule.title for rule in ruleset.rules}
        self._correlator = Correlator(ruleset.correlations, titles, self._correlator)
        self._muted = ruleset.muted
        self.ruleset = ruleset
        self._programs = programs

    def forget(self) -> None:
        """Begin anew: what comes next has nothing to do with what came before."""
        self._correlator = None
        self.replace(self.ruleset)

    @property
    def evicted(self) -> int:
        """Groups of correlations that were forgotten because there were too many."""
        return self._correlator.evicted if self._correlator else 0

    def evaluate(self, fact: Fact) -> list[Rule]:
        """Every rule the fact matches, the strongest response first."""
        program = self._programs.get(fact.category)
        return program(fact.fields, self._failed) if program else []

    def matches(self, facts: Iterable[Fact]) -> dict[str, tuple[Rule, Fact]]:
        """Each rule that one event's facts match, by id, with the first fact that it matches."""
        found: dict[str, tuple[Rule, Fact]] = {}
        for fact in facts:
            for rule in self.evaluate(fact):
                found.setdefault(rule.id, (rule, fact))
        return found

    def correlate(self, ktime_ns: int, matches: Matches) -> dict[str, tuple[Rule, Fact]]:
        """What is to be told of an event that happened, and the correlations that it completes."""
        if not matches or self._correlator is None:
            return dict(matches)
        fired: Matches = {}
        try:
            fired = self._correlator.feed(ktime_ns, matches)
        except Exception:  # noqa: BLE001 - whatever it is, what matched must still be acted on
            self._failed("correlations")
        return self.told({**matches, **fired})

    def told(self, matches: Matches) -> dict[str, tuple[Rule, Fact]]:
        """The matches without those of rules that are only there for correlations."""
        return {id_: match for id_, match in matches.items() if id_ not in self._muted}

    def _failed(self, rule_id: str) -> None:
        self.errors[rule_id] += 1


def _programs(ruleset: RuleSet) -> dict[str, Program]:
    by_category: defaultdict[str, list[Signature]] = defaultdict(list)
    for signature in sorted(ruleset.signatures, key=_strongest_first):
        by_category[signature.rule.category].append(signature)
    return {category: build(signatures) for category, signatures in by_category.items()}


def _strongest_first(signature: Signature) -> tuple[int, str]:
    return -signature.rule.response.rank, signature.rule.id
