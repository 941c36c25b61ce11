# SPDX-License-Identifier: Apache-2.0
"""What one comparison of a field tells of another one; it must never say more than is certain.

The readings are those of the engine: a comparison that is not `cased` sees text in lower case, an
absent field reads as empty text and equals nothing. Whoever asks gets None where that is open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_network

from monitor.detection.atoms import inside
from monitor.detection.condition import REFERENCES, Leaf, Match
from monitor.detection.fold import holds
from monitor.fields import LISTS

_FITS: dict[Match, Callable[[str, str], bool]] = {
    Match.EQUALS: lambda text, literal: text == literal,
    Match.PREFIX: str.startswith,
    Match.SUFFIX: str.endswith,
    Match.CONTAINS: lambda text, literal: literal in text,
}
"""Does a text satisfy a comparison with this literal, both in the same case?"""

_BELOW = {Match.LESS, Match.AT_MOST}
_ABOVE = {Match.MORE, Match.AT_LEAST}
_BOUND_ITSELF = {Match.AT_MOST, Match.AT_LEAST}
_LONGEST_NUMBER = 18
"""Digits up to which the engine reads a text and a number alike."""


@lru_cache(maxsize=1 << 18)
def implied(known: Leaf, other: Leaf) -> bool | None:
    """If `known` holds of an event: does `other` hold, not hold, or is that open?

    Two elements of a list may satisfy two comparisons that exclude each other.
    """
    if known.field != other.field or {known.match, other.match} & REFERENCES:
        return None
    if known.match is Match.NULL:
        return holds(other, None)
    if other.match is Match.NULL:
        return None if holds(known, None) else False
    found = _of_one_value(known, other)
    return None if found is False and known.field in LISTS else found


def _of_one_value(known: Leaf, other: Leaf) -> bool | None:
    if known.match is Match.EQUALS:
        return _of_the_text(known, other)
    if known.match is other.match is Match.NETWORK:
        return inside(ip_network(str(known.value)), ip_network(str(other.value)))
    if known.match in _BELOW | _ABOVE and other.match in _BELOW | _ABOVE:
        return _of_bounds(known, other)
    if known.match in _FITS and other.match in _FITS:
        return _in_one_case(known, other, _of_parts)
    return None


def _of_the_text(known: Leaf, other: Leaf) -> bool | None:
    """The whole text is known, unless its case is not."""
    text = str(known.value)
    if other.match in _FITS:
        return _in_one_case(known, other, _of_parts)
    if other.match in _BELOW | _ABOVE:
        plain = text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER
        return holds(other, text) if plain else None
    if known.cased or (text.isascii() and text.lower() == text.upper()):
        return holds(other, text)
    if other.match is Match.GLOB and not other.cased:
        return holds(other, text)  # it is put into lower case there
    return None


def _in_one_case(known: Leaf, other: Leaf, ask: Callable[[Leaf, Leaf], bool | None]) -> bool | None:
    """`ask` of literals in the same case; what is certain in lower case may be open in the other.

    Only ASCII has one lower case whatever stands beside it.
    """
    if known.cased and other.cased:
        return ask(known, other)
    crossed = [str(leaf.value) for leaf in (known, other) if leaf.cased]
    if not all(text.isascii() for text in crossed):
        return None
    found = ask(_lower(known), _lower(other))
    return None if found and other.cased else found


def _lower(leaf: Leaf) -> Leaf:
    return replace(leaf, value=str(leaf.value).lower())


def _of_parts(known: Leaf, other: Leaf) -> bool | None:
    mine, its = str(known.value), str(other.value)
    if known.match is Match.EQUALS:
        return _FITS[other.match](mine, its)
    if other.match is Match.EQUALS:
        return None if _FITS[known.match](its, mine) else False
    if other.match is Match.CONTAINS:
        return True if its in mine else None
    if known.match is not other.match:
        return None
    fits = _FITS[known.match]
    return True if fits(mine, its) else None if fits(its, mine) else False


def _of_bounds(known: Leaf, other: Leaf) -> bool | None:
    mine, its = float(known.value), float(other.value)
    both_in = {known.match, other.match} <= _BOUND_ITSELF
    if (known.match in _BELOW) is (other.match in _BELOW):
        within = mine < its if known.match in _BELOW else mine > its
        at_bound = known.match not in _BOUND_ITSELF or other.match in _BOUND_ITSELF
        return True if within or (mine == its and at_bound) else None
    apart = mine < its if known.match in _BELOW else mine > its
    return False if apart or (mine == its and not both_in) else None
