# SPDX-License-Identifier: Apache-2.0
"""What the generated code calls for values that plain string methods cannot compare.

Every function here sees text that an agent chose: none may raise on it or take more than linear
time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import re2

from monitor.detection.condition import Match

Get = Callable[[str], Any]
"""The name of a field -> its value, None where it is absent."""
Predicate = Callable[[Any], bool]

RE2_OPTIONS = re2.Options()
RE2_OPTIONS.log_errors = False  # a bad pattern is reported once, by the loader, not on stderr

_LONGEST_NUMBER = 18
"""Digits of text that are read as a number: more cannot be an id, a port or a mode."""

_COMPARISONS: dict[Match, Callable[[float, float], bool]] = {
    Match.LESS: operator.lt,
    Match.AT_MOST: operator.le,
    Match.MORE: operator.gt,
    Match.AT_LEAST: operator.ge,
}


_REMEMBERED = 128
"""Characters of a text that an expression's answer is kept for; agents make longer ones as they like."""


def text(value: object) -> str:
    """A field's value as rules spell it: `true`, `443`, `/etc/hosts`; an absent one is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class ListFound(TypeError):  # noqa: N818 -- no error: it says which way to go
    """A field has several values where one was expected."""


def single(value: object) -> str:
    """`text` of what is no list.

    Raises ListFound.
    """
    if isinstance(value, (list, tuple)):
        raise ListFound
    return text(value)


def elements(value: object) -> list[tuple[Any, str, str]]:
    """A field as a list of (value, text, lower-case text); an absent field is an empty list."""
    values = value if isinstance(value, (list, tuple)) else (value,)
    return [(v, text(v), text(v).lower()) for v in values if v is not None]


def pattern(expression: str, *, whole: bool) -> Predicate:
    """A test for text that matches an RE2 expression, as a whole or in part.

    RE2 reads UTF-8. An undecodable byte, which is a lone surrogate in our text, is passed on in
    the three-byte form of that surrogate: RE2 takes it as one character, so `.` matches it.
    """
    compiled = re2.compile(expression, RE2_OPTIONS)
    found = compiled.fullmatch if whole else compiled.search

    def matches(subject: str) -> bool:
        return found(subject.encode("utf-8", "surrogatepass")) is not None

    # Programs and working directories come again and again; a search takes ten times as long.
    known = lru_cache(maxsize=1024)(matches)
    return lambda subject: (known if len(subject) <= _REMEMBERED else matches)(subject)


def network(blocks: Sequence[str]) -> Predicate:
    """A test for the text of an address inside one of the CIDR blocks."""
    nets = [ip_network(block) for block in blocks]

    @lru_cache(maxsize=4096)
    def inside(subject: str) -> bool:
        address = _address(subject)
        return address is not None and any(address in net for net in nets)

    return inside


def comparison(match: Match, bound: float) -> Predicate:
    """A test for a number, or for decimal text, on one side of the bound."""
    compare = _COMPARISONS[match]

    def holds(value: object) -> bool:
        if isinstance(value, str) and value.isascii() and value.isdecimal():
            return len(value) <= _LONGEST_NUMBER and compare(int(value), bound)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and compare(value, bound)  # type: ignore[arg-type] # narrowed by `number`

    return holds


def _address(subject: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(subject)
    except ValueError:
        return None
    # ::ffff:192.0.2.1 on an IPv6 socket reaches 192.0.2.1, so it is 192.0.2.1 to a rule.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
