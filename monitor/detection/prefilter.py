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
Needles = tuple[frozenset[Needle], ...]
"""At most `_SETS`; of each set one must be found."""
Scan = Callable[[str], int]
"""Lower-case text -> a bit for each signature that may match."""

_LITERAL = {Match.EQUALS, Match.PREFIX, Match.SUFFIX, Match.CONTAINS}
_SETS = 2
"""A program's name and a word of its command line: with one alone, every shell is a candidate of each
rule about shells: programs through the community's rules and ours took 1.4 times as long."""
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


def needles(condition: Condition) -> Needles:
    """Sets of literals of which one each must be found for the condition to hold; rarest first."""
    return tuple(some for _, some in _needed(condition))


def _needed(condition: Condition) -> list[tuple[int, frozenset[Needle]]]:
    """The sets, and how rare they are thought to be."""
    match condition:
        case Leaf(field, how, value):
            text = str(value)
            # ASCII only: what other letters become in lower case may depend on their neighbours.
            usable = how in _LITERAL and field in _TEXTS and text.isascii()
            if not usable or len(text) < _SHORTEST:
                return []
            rare = len(text) + _RARE.get(field, {}).get(how, 0)
            return [(rare, frozenset({(field, text.lower())}))]
        case AllOf(terms):
            found = chain.from_iterable(map(_needed, terms))
            return sorted(found, key=_first, reverse=True)[:_SETS]
        case AnyOf(terms):
            each = [_needed(term) for term in terms]
            if not each or not all(each):
                return []
            # One that needs less than the others needs its last set once more.
            sets = [[some[min(at, len(some) - 1)] for some in each] for at in range(_SETS)]
            return [
                (min(map(_first, some)), frozenset(chain.from_iterable(set_ for _, set_ in some)))
                for some in sets[: max(map(len, each))]
            ]
        case _:
            return []


def scanner(wanted: Sequence[Needles]) -> Scan:
    """A scan for signatures with these needles; those without are candidates always."""
    everything = (1 << len(wanted)) - 1
    always = [0] * _SETS
    """Of each of the sets: signatures that do not have so many."""
    bits: dict[str, list[int]] = {}
    for number, sets in enumerate(wanted):
        for at in range(_SETS):
            if at >= len(sets):
                always[at] |= 1 << number
                continue
            for _, text in sets[at]:
                bits.setdefault(text, [0] * _SETS)[at] |= 1 << number
    masks = [(first, second) for first, second in bits.values()]
    automaton = AhoCorasick(bits, matchkind=MatchKind.Standard, implementation=Implementation.DFA)

    def scan(text: str) -> int:
        try:
            found = automaton.find_matches_as_indexes(text, overlapping=True)
        except UnicodeEncodeError:  # bytes that are no UTF-8: every signature has a look itself
            return everything
        first, second = always
        for index, _, _ in found:
            mask = masks[index]
            first |= mask[0]
            second |= mask[1]
        return first & second

    return scan
