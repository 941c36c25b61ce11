# SPDX-License-Identifier: Apache-2.0
"""One correlation document to a correlation, with every fault and its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final

from monitor.alerts import Response, Rule
from monitor.detection import sigma_correlation as sigma
from monitor.detection import strict
from monitor.detection.correlation import Correlation, Formula, Kind, holds
from monitor.detection.names import Names, id_of
from monitor.detection.source import Document, Step
from monitor.detection.strict import did_you_mean
from monitor.errors import RuleProblem

KEYS = ("type", "rules", "group-by", "timespan", "condition", "aliases", "generate")
"""What may stand below `correlation`."""

MOST: Final = 8192
"""Events or values that a correlation may count: each is remembered, in every group."""
MOST_REFERENCES: Final = 16

_LATER = ("lt", "lte", "eq", "neq")
_COUNTS = {Kind.EVENT_COUNT, Kind.VALUE_COUNT}


class Draft:
    """A correlation in the making. `problems` fills while it is read; then it may be incomplete."""

    def __init__(self, document: Document, rule: Rule, names: Names) -> None:
        self.document = document
        self.rule = rule
        self.problems: list[RuleProblem] = []
        self.body: dict[str, Any] = document.data["correlation"]
        self.kind = self._kind()
        self._formula_text = self.body.get("condition")
        self.references = self._references(names)
        self.timespan_ns = self._timespan_ns()
        self.aliases = self._aliases(names)
        self.least, self.counted = self._threshold()
        self.formula = self._formula()
        self.group_by = tuple(self._texts("group-by"))
        self._rest()

    def correlation(self) -> Correlation:
        """The whole, if there are no problems."""
        assert self.kind is not None
        return Correlation(
            rule=self.rule,
            kind=self.kind,
            references=self.ids,
            timespan_ns=self.timespan_ns,
            least=self.least,
            formula=self.formula,
            group_by=self.group_by,
            counted=self.counted,
            aliases=self.aliases,
            generate=self.body.get("generate", self.document.data.get("generate")) is True,
            line=self.document.line("response"),
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of what it refers to."""
        return tuple(id_of(one) for one in self.references)

    def wrong(self, message: str, *steps: Step, mend: str = "") -> None:
        """One problem, with a part below `correlation`."""
        self.problems.append(self.document.problem(message, "correlation", *steps, mend=mend))

    def can_fire(self, off: set[str]) -> bool:
        """Can it, if these rules never match?"""
        on = [position for position, id_ in enumerate(self.ids) if id_ not in off]
        if self.formula is not None:
            return any(holds(self.formula, seen) for seen in _subsets(on))
        return len(on) >= self.least if self.kind not in _COUNTS else bool(on)

    def _kind(self) -> Kind | None:
        given = self.body.get("type")
        if given in list(Kind):
            return Kind(given)
        known = f"`{given}` is not evaluated by this version" if given in sigma.TYPES else ""
        message = known or f"unknown type of correlation `{given}`"
        self.wrong(message, "type", mend=did_you_mean(str(given), Kind))
        return None

    def _references(self, names: Names) -> list[Document]:
        given = self._texts("rules")
        steps: list[tuple[Step, ...]] = [("rules", index) for index in range(len(given))]
        if not given and isinstance(self._formula_text, str):
            given = sigma.referenced(self._formula_text)
            steps = [("condition",)] * len(given)
        if not given:
            self.wrong("a correlation needs `rules`", "rules")
        if len(given) > MOST_REFERENCES:
            self.wrong(f"more than {MOST_REFERENCES} rules are referred to", "rules")
        found: list[Document] = []
        self._words: dict[str, int] = {}
        self._asked = len(given)
        for reference, at in zip(given, steps, strict=True):
            one, problems = names.find(reference, self.document, "correlation", *at)
            self.problems += problems
            if one is not None:
                self._words.setdefault(reference, len(found))
                found.append(one)
        return found

    def _timespan_ns(self) -> int:
        try:
            return sigma.timespan_s(self.body.get("timespan")) * 1_000_000_000
        except ValueError as error:
            self.wrong(str(error), "timespan", mend="e.g. `30s`, `10m`, `1h`")
            return 0

    def _aliases(self, names: Names) -> Mapping[tuple[str, str], str]:
        aliases = self.body.get("aliases") or {}
        found: dict[tuple[str, str], str] = {}
        if not isinstance(aliases, dict):
            self.wrong("`aliases` is a mapping of names", "aliases")
            return found
        for alias, mapping in aliases.items():
            if not isinstance(mapping, dict):
                self.wrong(f"`{alias}` needs a field for each rule", "aliases", alias)
                continue
            for reference, field in mapping.items():
                steps = ("correlation", "aliases", alias, reference)
                one, problems = names.find(reference, self.document, *steps)
                self.problems += problems
                if one is not None:
                    found[alias, id_of(one)] = str(field)
                    if id_of(one) not in self.ids:
                        self.wrong(f"`{reference}` is not one of its rules", *steps[1:])
        return found

    def _threshold(self) -> tuple[int, tuple[str, ...]]:
        condition, here = self._formula_text, ("condition",)
        if self.kind not in _COUNTS and not isinstance(condition, dict):
            return len(self.references), ()
        if not isinstance(condition, dict):
            self.wrong("it needs a `condition` with `gte`", *here)
            return 1, ()
        counted = condition.get("field") or []
        counted = counted if isinstance(counted, list) else [counted]
        if bool(counted) is not (self.kind is Kind.VALUE_COUNT):
            self.wrong("`field` names what `value_count`, and nothing else, counts", *here)
        for key in condition:
            if key in _LATER:
                message = f"`{key}` is known when the timespan is over, and not with an event"
                self.wrong(message, *here, key, mend="use `gte`")
            elif key not in {"gte", "gt", "field"}:
                self.wrong(
                    f"unknown key `{key}`", *here, key, mend=did_you_mean(key, ("gte", "gt"))
                )
        given = [key for key in ("gte", "gt") if key in condition]
        if len(given) != 1:
            self.wrong("it needs one of `gte` and `gt`", *here)
            return 1, ()
        [key] = given
        return self._number(condition[key], key), tuple(map(str, counted))

    def _number(self, given: object, key: str) -> int:
        most = MOST if self.kind in _COUNTS else max(1, len(self.references))
        least = int(given) + (key == "gt") if type(given) is int else 0
        if not 1 <= least <= most:
            message = f"`{given}` is no number from 1 to {most}"
            self.wrong(message, "condition", key)
        if self.kind is Kind.TEMPORAL_ORDERED and least != len(self.references):
            self.wrong("an order is one of all its rules", "condition", mend="leave it out")
        return least

    def _formula(self) -> Formula | None:
        text = self._formula_text
        if not isinstance(text, str) or self.kind in _COUNTS or len(self.references) < self._asked:
            return None
        if self.kind is Kind.TEMPORAL_ORDERED:
            message = "only `temporal` takes rules in its condition"
            self.wrong(message, "condition", mend="use `temporal`, or list them in `rules`")
            return None
        try:
            formula = sigma.formula(text, self._words)
        except ValueError as error:
            self.wrong(str(error), "condition")
            return None
        everyone = list(range(len(self.references)))
        used = sigma.referenced(text)
        for index, reference in enumerate(self._texts("rules")):
            if reference not in used:
                self.wrong(f"`{reference}` is not used by the condition", "rules", index)
        if holds(formula, ()):
            self.wrong("the condition holds before anything happens", "condition")
        elif not any(holds(formula, seen) for seen in _subsets(everyone)):
            self.wrong("the condition can never hold", "condition")
        return formula

    def _texts(self, key: str) -> list[str]:
        given = self.body.get(key)
        found = [given] if isinstance(given, str) else given or []
        if isinstance(found, list) and all(isinstance(one, str) for one in found):
            return found
        self.wrong(f"`{key}` is a list of names", key)
        return []

    def _rest(self) -> None:
        for key in self.body:
            if key not in KEYS:
                self.wrong(f"unknown key `{key}` in correlation", key, mend=did_you_mean(key, KEYS))
        for place in (self.body, self.document.data):
            if not isinstance(place.get("generate", False), bool):
                self.wrong("`generate` is `true` or `false`", "generate")
        if self.rule.response is Response.DENY:
            message = "`response: deny`: what several events make together is known too late"
            self.problems.append(self.document.problem(message, "response", mend="use `freeze`"))


def check(document: Document) -> Iterator[RuleProblem]:
    """What must be right before a draft can be made."""
    yield from strict.check_correlation(document)
    if not isinstance(document.data["correlation"], dict):
        yield document.problem("`correlation` is a mapping", "correlation")


def _subsets(positions: list[int]) -> Iterator[set[int]]:
    for choice in product((True, False), repeat=len(positions)):
        yield {position for position, on in zip(positions, choice, strict=True) if on}
