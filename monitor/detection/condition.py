# SPDX-License-Identifier: Apache-2.0
"""The condition of a signature as an immutable tree; it knows neither Sigma nor how to evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Match(StrEnum):
    """How a leaf compares a field with its value."""

    EQUALS = "equals"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    CONTAINS = "contains"
    GLOB = "glob"
    """The value is an RE2 expression for the whole text."""
    REGEX = "regex"
    """The value is an RE2 expression for any part of the text."""
    NETWORK = "network"
    """The value is a CIDR block."""
    LESS = "less"
    AT_MOST = "at_most"
    MORE = "more"
    AT_LEAST = "at_least"
    NULL = "null"
    """The field is absent; there is no value."""
    SAME_AS = "same_as"
    """This and the next three: the value names another field, whose value it is about."""
    BEGINS_WITH = "begins_with"
    ENDS_WITH = "ends_with"
    HAS_IN_IT = "has_in_it"


REFERENCES = frozenset({Match.SAME_AS, Match.BEGINS_WITH, Match.ENDS_WITH, Match.HAS_IN_IT})
"""Comparisons of two fields of an event: one of them alone decides nothing."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison. `value` keeps the author's spelling; unless `cased`, case does not count."""

    field: str
    match: Match
    value: str | float = ""
    cased: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that must be known to decide it."""
        return (self.field, str(self.value)) if self.match in REFERENCES else (self.field,)


@dataclass(frozen=True, slots=True)
class AllOf:
    """True if every term is."""

    terms: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True if at least one term is."""

    terms: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True if the term is not."""

    term: Condition


Condition: TypeAlias = Leaf | AllOf | AnyOf | Not


def asserted(condition: Condition, *, positive: bool = True) -> Iterator[Leaf]:
    """The leaves that help to make the condition true: those under an even number of `not`."""
    match condition:
        case Leaf():
            if positive:
                yield condition
        case Not(term):
            yield from asserted(term, positive=not positive)
        case AllOf(terms) | AnyOf(terms):
            for term in terms:
                yield from asserted(term, positive=positive)


def depth(condition: Condition) -> int:
    """Levels of the tree; Python's own parser gives up at some 200 parentheses."""
    match condition:
        case Leaf():
            return 1
        case Not(term):
            return 1 + depth(term)
        case AllOf(terms) | AnyOf(terms):
            return 1 + max((depth(term) for term in terms), default=0)
