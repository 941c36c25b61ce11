# SPDX-License-Identifier: Apache-2.0
"""Which signatures a text can match at all, by one pass of Aho-Corasick over it.

Most facts match nothing. A condition that is true needs some literal to be there: where none of them
is, nothing is evaluated. What the pass lets through is only a candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter

from ahocorasick_rs import AhoCorasick, Implementation, MatchKind

from monitor.detection.condition import AllOf, AnyOf, Condition, Leaf, Match

Needle = tuple[str, str]
"""A field, and what must be found in its lower-case text."""
Scan = Callable[[str], int]
"""Lower-case text -> a bit for each signature that may match."""

_LITERAL = {Match.EQUALS, Match.PREFIX, Match.SUFFIX, Match.CONTAINS}
_SHORTEST = 3
"""Shorter ones are found everywhere."""
_TEXTS = {
    *("Image", "CommandLine", "CurrentDirectory", "Script", "ParentImage", "ParentCommandLine"),
    *("TargetFilename", "SourceFilename", "QueryName", "DestinationHostname", "Detail"),
}
"""What an agent chooses freely. Other fields have few values, which most facts share."""
_OF_FILES = {Match.PREFIX: -10, Match.EQUALS: 10, Match.SUFFIX: 12}
_RARE = {
    "TargetFilename": _OF_FILES,
    "SourceFilename": _OF_FILES,
    "Image": {Match.PREFIX: -10, Match.EQUALS: 10},
}
"""Most paths of a session begin alike, and how a file's ends says more than what is in it. Programs
are few: there is always a shell."""
_first = itemgetter(0)


def needles(condition: Condition) -> frozenset[Needle] | None:
    """Literals of which one must be found for the condition to hold; None if none must."""
    found = _needed(condition)
    return found[1] if found is not None else None


def _needed(condition: Condition) -> tuple[int, frozenset[Needle]] | None:
    """The needles, and how rare they are thought to be."""
    match condition:
        case Leaf(field, how, value):
            text = str(value)
            # ASCII only: what other letters become in lower case may depend on their neighbours.
            usable = how in _LITERAL and field in _TEXTS and text.isascii()
            if not usable or len(text) < _SHORTEST:
                return None
            rare = len(text) + _RARE.get(field, {}).get(how, 0)
            return rare, frozenset({(field, text.lower())})
        case AllOf(terms):
            found = [some for some in map(_needed, terms) if some is not None]
            return max(found, key=_first, default=None)
        case AnyOf(terms):
            each = [some for some in map(_needed, terms) if some is not None]
            if not each or len(each) < len(terms):
                return None
            return min(map(_first, each)), frozenset(chain.from_iterable(some for _, some in each))
        case _:
            return None


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
