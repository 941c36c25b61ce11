# SPDX-License-Identifier: Apache-2.0
"""Sigma's correlation documents by way of pySigma; the only module that knows its trees of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyparsing import ParseException
from sigma.correlations import (
    CorrelationConditionAND,
    CorrelationConditionNOT,
    CorrelationConditionOR,
    SigmaCorrelationRule,
    SigmaCorrelationTimespan,
    SigmaCorrelationType,
    SigmaExtendedCorrelationCondition,
)
from sigma.exceptions import SigmaError, SigmaTimespanError

from monitor.detection.correlation import Either, Every, Formula, Seen, Unless

TYPES = tuple(kind.name.lower() for kind in SigmaCorrelationType)
"""Every type that Sigma knows."""


def errors(document: Mapping[str, Any]) -> list[SigmaError]:
    """What pySigma objects to."""
    try:
        parsed = SigmaCorrelationRule.from_dict(dict(document), collect_errors=True)
    except SigmaError as error:
        return [error]
    return list(parsed.errors)


def timespan_s(given: object) -> int:
    """Seconds; a ValueError says what is wrong."""
    if not isinstance(given, str):
        raise ValueError("a correlation needs a `timespan`")  # noqa: TRY004 -- as for bad text
    try:
        return SigmaCorrelationTimespan(given).seconds
    except SigmaTimespanError as error:
        raise ValueError(str(error)) from None


def referenced(condition: str) -> list[str]:
    """The names in a condition, each once; none if it cannot be read."""
    try:
        return SigmaExtendedCorrelationCondition(condition).get_referenced_rules()
    except (SigmaError, RecursionError):
        return []


def formula(condition: str, positions: Mapping[str, int]) -> Formula:
    """The condition over positions of references; a ValueError says what is wrong."""
    try:
        tree = SigmaExtendedCorrelationCondition.parse(condition)
    except (ParseException, SigmaError):
        raise ValueError("the condition cannot be read: `and`, `or`, `not` and names") from None
    except RecursionError:
        raise ValueError("the condition is nested too deeply") from None
    return _translate(tree, positions)


def _translate(tree: Any, positions: Mapping[str, int]) -> Formula:  # noqa: ANN401 -- one of four
    match tree:
        case CorrelationConditionAND():
            return Every(tuple(_translate(arg, positions) for arg in tree.args))
        case CorrelationConditionOR():
            return Either(tuple(_translate(arg, positions) for arg in tree.args))
        case CorrelationConditionNOT():
            return Unless(_translate(tree.args[0], positions))
    if tree.reference not in positions:
        raise ValueError(f"`{tree.reference}` is not one of its rules")
    return Seen(positions[tree.reference])
