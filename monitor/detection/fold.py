# SPDX-License-Identifier: Apache-2.0
"""Conditions of which something is known already: simplified, with `not` at the leaves only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from monitor.detection.compile import Test, compiled
from monitor.detection.condition import AllOf, AnyOf, Condition, Leaf, Not

TRUE = AllOf(())
FALSE = AnyOf(())

Decide = Callable[[Leaf], bool | None]
"""Whether a leaf holds; None where that is not known."""


def fold(condition: Condition, decide: Decide, *, positive: bool = True) -> Condition:
    """What is left of a condition: `TRUE`, `FALSE`, or a tree of leaves that nobody decided."""
    # Asked some hundred thousand times for a rule set: without a pattern or a generator.
    if isinstance(condition, Leaf):
        known = decide(condition)
        if known is None:
            return condition if positive else Not(condition)
        return TRUE if known is positive else FALSE
    if isinstance(condition, Not):
        return fold(condition.term, decide, positive=not positive)
    joined = AllOf if isinstance(condition, AllOf) is positive else AnyOf
    kept: list[Condition] = []
    for term in condition.terms:
        left = fold(term, decide, positive=positive)
        if isinstance(left, joined):
            kept += left.terms  # none of them, if it decides nothing here
        elif isinstance(left, (Leaf, Not)) or left.terms:
            kept.append(left)
        else:
            return left  # the one constant that decides
    return kept[0] if len(kept) == 1 else joined(tuple(kept))


def holds(leaf: Leaf, value: object) -> bool:
    """Does a field with this value (None: absent) satisfy the leaf, by the engine's own reading?"""
    return _test(leaf)({leaf.field: value}.get)


def leaves(condition: Condition) -> Iterator[Leaf]:
    """Every leaf, whether it helps or hinders."""
    match condition:
        case Leaf():
            yield condition
        case Not(term):
            yield from leaves(term)
        case AllOf(terms) | AnyOf(terms):
            for term in terms:
                yield from leaves(term)


def forget() -> None:
    """Let go of the tests of single leaves: they are of use while a rule set is lowered."""
    _test.cache_clear()


@lru_cache(maxsize=4096)
def _test(leaf: Leaf) -> Test:
    return compiled(leaf)
