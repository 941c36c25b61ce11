# SPDX-License-Identifier: Apache-2.0
"""A correlation as data: which matches of other rules together make one; it evaluates no event."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from monitor.alerts import Rule

CATEGORY: Final = "correlation"
"""What stands in the place of a logsource category in the rule of a correlation."""


class Kind(StrEnum):
    """Sigma's types of correlation that can be judged while events come in."""

    EVENT_COUNT = "event_count"
    """At least so many matches."""
    VALUE_COUNT = "value_count"
    """Matches with at least so many different values of a field."""
    TEMPORAL = "temporal"
    """All of the rules, or as many or such of them as the condition says, in any order."""
    TEMPORAL_ORDERED = "temporal_ordered"
    """All of the rules, in the order in which they are named."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A rule, by its position among the references, matched within the timespan."""

    position: int


@dataclass(frozen=True, slots=True)
class Every:
    """All terms hold."""

    terms: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one term holds."""

    terms: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Unless:
    """The term does not hold (yet)."""

    term: Formula


Formula: TypeAlias = Seen | Every | Either | Unless


@dataclass(frozen=True, slots=True)
class Correlation:
    """What must come together, within `timespan_ns` of kernel time, in one group of one session."""

    rule: Rule
    kind: Kind
    references: tuple[str, ...]
    """Ids of rules and of other correlations."""
    timespan_ns: int
    least: int
    """How many events, values or different references."""
    formula: Formula | None = None
    """What `temporal` asks for beyond `least`."""
    group_by: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    """The fields whose values `value_count` counts."""
    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(name used above, id of a reference) -> the field that has it there."""
    generate: bool = False
    """The referenced rules are told of by themselves, too."""
    line: int = field(default=0, compare=False)


def holds(formula: Formula, seen: Collection[int]) -> bool:
    """Is the formula true if exactly these references matched?"""
    match formula:
        case Seen(position):
            return position in seen
        case Every(terms):
            return all(holds(term, seen) for term in terms)
        case Either(terms):
            return any(holds(term, seen) for term in terms)
        case Unless(term):
            return not holds(term, seen)
