# SPDX-License-Identifier: Apache-2.0
"""The signatures of one category as one function: the prefilter, then the tests of what it let by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from monitor.alerts import Rule
from monitor.detection.compile import Test, compiled
from monitor.detection.prefilter import needles, prefilter
from monitor.detection.ruleset import Signature
from monitor.detection.values import Get, ListFound

Program = Callable[[Mapping[str, Any], Callable[[str], None]], list[Rule]]
"""(fields of a fact, told the id of a rule whose evaluation raised) -> the rules that match."""

Tests = Sequence[tuple[Rule, Test]]

_REMEMBERED = 1024


def build(signatures: Sequence[Signature]) -> Program:
    """The function that evaluates these signatures, in their order, on the fields of one fact."""
    candidates = prefilter([needles(one.condition) for one in signatures])
    chosen = _Chosen([(one.rule, compiled(one.condition)) for one in signatures])

    @cache
    def of_lists() -> Tests:
        return [(one.rule, compiled(one.condition, many=True)) for one in signatures]

    def evaluate(fields: Mapping[str, Any], failed: Callable[[str], None]) -> list[Rule]:
        get = fields.get
        try:
            found = candidates(get)
            return _matching(chosen[found], get, failed) if found else []
        except ListFound:  # a list where none is expected: it cannot be looked up
            return _matching(of_lists(), get, failed)

    return evaluate


class _Chosen(dict[int, Tests]):
    """A bit for each signature -> their tests, in order. What was asked before is remembered."""

    def __init__(self, tests: Tests) -> None:
        super().__init__()
        self._tests = tests

    def __missing__(self, bits: int) -> Tests:
        chosen = [one for number, one in enumerate(self._tests) if bits >> number & 1]
        if len(self) >= _REMEMBERED:
            self.clear()
        self[bits] = chosen
        return chosen


def _matching(tests: Tests, get: Get, failed: Callable[[str], None]) -> list[Rule]:
    hits = []
    for rule, holds in tests:
        try:
            if holds(get):
                hits.append(rule)
        except ListFound:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the other rules must still be asked
            failed(rule.id)
    return hits
