# SPDX-License-Identifier: Apache-2.0
"""Which signatures a text can match at all, by one pass of Aho-Corasick over it.

Most facts match nothing. A condition that is true needs some literal to be there: where none of them
is, nothing is evaluated. What the pass lets through is only a candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from ahocorasick_rs import AhoCorasick, Implementation, MatchKind

from monitor.detection.condition import AllOf, AnyOf, Condition, Leaf, Match
from monitor.fields import LISTS

Needle = tuple[str, str]
"""A field, and what must be found in its lower-case text."""
Scan = Callable[[str], int]
"""Lower-case text -> a bit for each signature that may match."""

_LITERAL = {Match.EQUALS, Match.PREFIX, Match.SUFFIX, Match.CONTAINS}
_SHORTEST = 3
"""Shorter ones are found everywhere."""


def needles(condition: Condition) -> frozenset[Needle] | None:
    """Literals of which one must be found for the condition to hold; None if none must."""
    match condition:
        case Leaf(field, how, value):
            text = str(value)
            # ASCII only: what other letters become in lower case may depend on their neighbours.
            usable = how in _LITERAL and field not in LISTS and text.isascii()
            return frozenset({(field, text.lower())}) if usable and len(text) >= _SHORTEST else None
        case AllOf(terms):
            found = [some for some in map(needles, terms) if some is not None]
            return max(found, key=_shortest, default=None)
        case AnyOf(terms):
            each = [needles(term) for term in terms]
            if not each or None in each:
                return None
            return frozenset(chain.from_iterable(some for some in each if some is not None))
        case _:
            return None


def _shortest(some: frozenset[Needle]) -> int:
    return min(len(text) for _, text in some)


def scanner(wanted: Sequence[frozenset[Needle] | None]) -> Scan:
    """A scan for signatures with these needles; those without are candidates always."""
    always = everything = 0
    bits: dict[str, int] = {}
    for number, some in enumerate(wanted):
        everything |= 1 << number
        if some is None:
            always |= 1 << number
            continue
        for _, text in some:
            bits[text] = bits.get(text, 0) | 1 << number
    masks = list(bits.values())
    automaton = AhoCorasick(bits, matchkind=MatchKind.Standard, implementation=Implementation.DFA)

    def scan(text: str) -> int:
        try:
            found = automaton.find_matches_as_indexes(text, overlapping=True)
        except UnicodeEncodeError:  # bytes that are no UTF-8: every signature has a look itself
            return everything
        mask = always
        for index, _, _ in found:
            mask |= masks[index]
        return mask

    return scan
