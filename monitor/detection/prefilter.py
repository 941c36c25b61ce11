# SPDX-License-Identifier: Apache-2.0
"""Which signatures a fact can match at all, by one look at each of its texts.

Most facts match nothing. A condition that is true needs some literals to be there: where they are
not, nothing is evaluated. What is let through is only a candidate.

A program, a directory and most files come again and again: what was found in a short text is
remembered. In others one pass of Aho-Corasick finds all literals of all signatures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter

from ahocorasick_rs import AhoCorasick, Implementation, MatchKind

from monitor.detection.condition import AllOf, AnyOf, Condition, Leaf, Match
from monitor.detection.literals import literals
from monitor.detection.values import Get, elements, single
from monitor.fields import LISTS

Needles = tuple[frozenset[Leaf], ...]
"""At most `_SETS`; of each set one must hold. They are compared in lower case, whatever the rule says."""

Masks = dict[Leaf, int]
"""Bits: first those for the first set of each signature, then those for its second, and so on."""
Prefilter = Callable[[Get], int]
"""A fact -> a bit for each signature that it may match.

It raises ListFound if a field is a list where `fields.LISTS` does not say so.
"""

_EDGE = "\0"
"""Neither a path nor an argument can hold it, so it marks where a text begins and where it ends."""
_SOUGHT: dict[Match, Callable[[str], str]] = {
    Match.EQUALS: lambda text: f"{_EDGE}{text}{_EDGE}",
    Match.PREFIX: lambda text: f"{_EDGE}{text}",
    Match.SUFFIX: lambda text: f"{text}{_EDGE}",
    Match.CONTAINS: str,
}
"""What is looked for in a text between its edges."""
_SETS = 3
"""A program's name and two words of its command line: with the name alone, every shell is a candidate
of each rule about shells."""
_SHORTEST = 3
"""Shorter ones are found everywhere, unless the rule says where."""
_OF_PATHS = {Match.PREFIX: -10, Match.EQUALS: 10, Match.SUFFIX: 12}
_OF_PROGRAMS = {Match.PREFIX: -10, Match.EQUALS: 10}
_SPECIAL = {
    **dict.fromkeys(("TargetFilename", "SourceFilename"), _OF_PATHS),
    **dict.fromkeys(("Image", "ParentImage", "Script"), _OF_PROGRAMS),
}
"""Most paths of a session begin alike, and how a file's ends says more than what is in it. Programs
are few: there is always a shell."""
_FREE = {"CommandLine", "ParentCommandLine", "CurrentDirectory", "Detail", "QueryName", *_SPECIAL}
_FREE |= {"DestinationHostname"}
"""What an agent chooses. Other fields have few values, which most facts share: they are looked at
where there is nothing else."""
_COMMON = -100
_REMEMBERED = 1024
"""Texts of one field of which the answer is kept."""
_LONGEST = 256
"""Characters of such a text: agents make longer ones as they like."""
_first = itemgetter(0)


def needles(condition: Condition) -> Needles:
    """Sets of leaves of which one each must hold for the condition to hold; the rarest first."""
    return tuple(some for _, some in _needed(condition))


def _needed(condition: Condition) -> list[tuple[int, frozenset[Leaf]]]:
    """The sets, and how rare they are thought to be."""
    match condition:
        case Leaf():
            some = _sought(condition)
            return [(min(map(_rarity, some)), frozenset(some))] if some else []
        case AllOf(terms):
            found = sorted(chain.from_iterable(map(_needed, terms)), key=_first, reverse=True)
            return ([one for one in found if one[0] > _COMMON] or found)[:_SETS]
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


def _sought(leaf: Leaf) -> list[Leaf]:
    """What can be looked for of which one must be there if the leaf holds."""
    text, how = str(leaf.value), leaf.match
    if how in {Match.GLOB, Match.REGEX}:
        how, texts = Match.CONTAINS, literals(text)
    else:
        # ASCII only: what other letters become in lower case may depend on their neighbours.
        texts = frozenset({text.lower()} if text.isascii() else ())
    shortest = _SHORTEST if how is Match.CONTAINS else 1
    if how not in _SOUGHT or any(len(text) < shortest for text in texts):
        return []
    return [Leaf(leaf.field, how, text) for text in texts]


def _rarity(needle: Leaf) -> int:
    if needle.field not in _FREE:
        return _COMMON
    special = _SPECIAL.get(needle.field, {}).get(needle.match, 0)
    return len(str(needle.value)) + special


def prefilter(wanted: Sequence[Needles]) -> Prefilter:
    """Looks for these needles; signatures without any are candidates always."""
    many = len(wanted)
    masks, always = _masks(wanted)
    everything = (1 << many * _SETS) - 1
    finders = [(field, _Finder(mine, everything)) for field, mine in masks.items()]
    singles = [one for one in finders if one[0] not in LISTS]
    lists = [one for one in finders if one[0] in LISTS]
    others = [at * many for at in range(1, _SETS)]

    def candidates(get: Get) -> int:
        found = always
        for field, finder in singles:
            value = get(field)
            if value is None:
                continue
            kind = value.__class__
            if mask := finder[value if kind is str or kind is bool else single(value)]:
                found |= mask
        for field, finder in lists:
            for _, text, _ in elements(get(field)):
                found |= finder[text]
        every = found
        for shift in others:
            every &= found >> shift
        return every

    return candidates


def _masks(wanted: Sequence[Needles]) -> tuple[Mapping[str, Masks], int]:
    """The bits of each needle, by field; and those of sets that there are not."""
    always = 0
    masks: defaultdict[str, Masks] = defaultdict(lambda: defaultdict(int))
    for number, sets in enumerate(wanted):
        for at in range(_SETS):
            bit = 1 << at * len(wanted) + number
            if at >= len(sets):
                always |= bit
                continue
            for needle in sets[at]:
                masks[needle.field][needle] |= bit
    return masks, always


class _Finder(dict[str | bool, int]):
    """A field's text -> the bits of the needles that are in it. Short texts are remembered.

    A boolean may be given as it is. A number may not: 1 and `True` are the same key.
    """

    def __init__(self, masks: Masks, everything: int) -> None:
        super().__init__()
        self._everything = everything
        sought: defaultdict[str, int] = defaultdict(int)
        for needle, mask in masks.items():
            sought[_SOUGHT[needle.match](str(needle.value))] |= mask
        self._masks = list(sought.values())
        self._literals = AhoCorasick(
            sought, matchkind=MatchKind.Standard, implementation=Implementation.DFA
        )

    def __missing__(self, value: str | bool) -> int:  # noqa: FBT001 -- Python calls it
        text = single(value)
        framed = f"{_EDGE}{text.lower()}{_EDGE}"
        found = 0
        try:
            for index, _, _ in self._literals.find_matches_as_indexes(framed, overlapping=True):
                found |= self._masks[index]
        except UnicodeEncodeError:  # bytes that are no UTF-8: every signature has a look itself
            found = self._everything
        if len(text) <= _LONGEST:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[value] = found
        return found
