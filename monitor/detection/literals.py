# SPDX-License-Identifier: Apache-2.0
"""What a text must have in it for an RE2 expression to match.

RE2 keeps what it knows of this to itself, so the expression is read by the parser of Python's `re`.
Of what RE2 takes, Python refuses some, reads `{,5}` as less, and has other ideas of a `[` in a set only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, product
from re import _constants as op  # type: ignore[attr-defined] # no stub; the public name of it is deprecated
from re import _parser  # type: ignore[attr-defined]
from typing import Any

Piece = tuple[Any, Any]
"""What the parser makes of a part of an expression: its kind, and what that kind says."""
Texts = frozenset[str]

_NONE: Texts = frozenset()
_NOTHING: Texts = frozenset({""})
"""What takes no place, such as the beginning of a line."""
_REPEATS = {op.MAX_REPEAT, op.MIN_REPEAT}
_ASCII = 0x7F
_MOST = 64
"""Literals of which one must be there: more say little and cost a place in the prefilter each."""
_DOUBTFUL = re.compile(r"\[[^]]*(?:\[|--|&&|\|\||~~)")
"""In a set: a POSIX class, which Python reads as some letters, and what it warns of."""
_SEVERAL_CASES = "s"
"""RE2 takes U+017F for it where case does not count, and `str.lower` leaves that alone."""


def shortest(expression: str) -> int:
    """Characters that a match has at least; 0 where that is not known."""
    return _read(expression)[0]


def literals(expression: str) -> Texts:
    """Lower-case ASCII texts of which one is in each lower-case text that the expression matches.

    Empty where there are none, or too many of them.
    """
    return _read(expression)[1]


@lru_cache(maxsize=4096)
def _read(expression: str) -> tuple[int, Texts]:
    parsed = _parsed(expression)
    if parsed is None:
        return 0, _NONE
    found = max(_needed(parsed, parsed.state.flags), key=_worth)
    return parsed.getwidth()[0], found if _worth(found) else _NONE


def _parsed(expression: str) -> Any:  # noqa: ANN401 -- the parser has no types
    if _DOUBTFUL.search(expression):
        return None
    try:
        return _parser.parse(expression)
    except (re.error, OverflowError, RecursionError):
        return None


def _worth(texts: Texts) -> int:
    return min(map(len, texts), default=0)


def _needed(items: Iterable[Piece], flags: int) -> Iterator[Texts]:
    """Sets of texts of which one each must be there, for pieces that follow each other."""
    run = _NOTHING
    for piece in items:
        spelled = _spelled(piece, flags)
        if joined := _joined(run, spelled):
            run = joined
        else:
            yield run
            run = spelled or _NOTHING
            yield from () if spelled else _inside(piece, flags)
    yield run


def _inside(piece: Piece, flags: int) -> Iterator[Texts]:
    """The same for a piece that can be too many texts to say all of them."""
    kind, argument = piece
    if kind is op.SUBPATTERN:
        _, added, removed, items = argument
        yield from _needed(items, (flags | added) & ~removed)
    elif kind is op.BRANCH:
        each = [max(_needed(items, flags), key=_worth) for items in argument[1]]
        texts = frozenset(chain.from_iterable(each))
        yield texts if len(texts) <= _MOST else _NOTHING
    elif kind in _REPEATS and argument[0]:
        yield from _needed(argument[2], flags)


def _spelled(piece: Piece, flags: int) -> Texts:
    """All texts that a piece can be, in lower case; none if they are too many."""
    texts = _NONE
    match piece:
        case op.LITERAL, code:
            several = chr(code).lower() == _SEVERAL_CASES and flags & re.IGNORECASE
            texts = frozenset({chr(code).lower()} if code <= _ASCII and not several else ())
        case op.AT, _:
            texts = _NOTHING
        case op.IN, items:
            texts = _either(_spelled(item, flags) for item in items)
        case op.BRANCH, (_, branches):
            texts = _either(_sequence(items, flags) for items in branches)
        case op.SUBPATTERN, (_, added, removed, items):
            texts = _sequence(items, (flags | added) & ~removed)
        case ((op.MAX_REPEAT | op.MIN_REPEAT), (0 | 1 as least, 1, items)):
            once = _sequence(items, flags)
            texts = once if least or not once else once | _NOTHING
    return texts


def _sequence(items: Iterable[Piece], flags: int) -> Texts:
    run = _NOTHING
    for piece in items:
        run = _joined(run, _spelled(piece, flags))
    return run


def _joined(before: Texts, after: Texts) -> Texts:
    few = len(before) * len(after) <= _MOST
    return frozenset(map("".join, product(before, after))) if few else _NONE


def _either(each: Iterable[Texts]) -> Texts:
    all_of_them = list(each)
    texts = frozenset(chain.from_iterable(all_of_them))
    return texts if all(all_of_them) and len(texts) <= _MOST else _NONE
