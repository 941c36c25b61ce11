# SPDX-License-Identifier: Apache-2.0
"""How much the kernel can be told to watch: too many rules are refused, of too many files some are left out.

An agent makes as many root directories as it likes, with files at watched paths in each of them. What
is left out is known by its path and its name only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from monitor.errors import RuleProblem
from monitor.lowered import MOST_ROWS

_OF_A_SESSION = 2048
"""Files below all roots of one session; the host has some hundred at watched paths."""

_WRITTEN_BY_RULES = {
    "watched_paths": "paths",
    "watched_leaves": "names",
    "watched_networks": "networks",
    "exempt_programs": "exempt programs",
}
"""Maps that are as full as the rules make them, in the words of their author."""

Inode = tuple[int, int]
"""Device and inode."""


class Found(NamedTuple):
    """Where watched paths lead."""

    on_host: Mapping[str, Iterable[Inode]]
    """Below the host's own root."""
    of_sessions: Mapping[int, Sequence[tuple[str, Inode]]]
    """Slot -> below the roots of the session, the oldest root first; 0 where nobody knows whose."""


def too_many(counts: Mapping[str, int]) -> list[RuleProblem]:
    """What is wrong with rules that need so many rows of these maps; nothing where they fit."""
    return [
        RuleProblem(
            "all rules together",
            0,
            f"{counts[name]} {what}, and the kernel can be told of {MOST_ROWS}",
            "name directories instead of the files in them, or leave rules out",
        )
        for name, what in _WRITTEN_BY_RULES.items()
        if counts[name] > MOST_ROWS
    ]


def fitting(
    found: Found, wanted: Callable[[str], object]
) -> tuple[dict[Inode, list[str]], Counter[int]]:
    """The files to be told of with their paths, at most `MOST_ROWS`; and slot -> how many are left out.

    The host's own come first (slot 0); then each session has the same share.
    """
    files: dict[Inode, list[str]] = {}
    left_out = Counter({0: _take_in(files, _flat(found.on_host), wanted, MOST_ROWS)})
    share = (MOST_ROWS - len(files)) // max(1, len(found.of_sessions))
    for slot, pairs in found.of_sessions.items():
        most = len(files) + min(share, _OF_A_SESSION)
        left_out[slot] += _take_in(files, pairs, wanted, most)
    return files, +left_out


def _flat(table: Mapping[str, Iterable[Inode]]) -> Iterator[tuple[str, Inode]]:
    return ((path, inode) for path, where in table.items() for inode in where)


def _take_in(
    files: dict[Inode, list[str]],
    pairs: Iterable[tuple[str, Inode]],
    wanted: Callable[[str], object],
    most: int,
) -> int:
    """Add those that fit; how many do not."""
    left_out = 0
    for path, inode in pairs:
        if not wanted(path):
            continue
        if inode in files or len(files) < most:
            files.setdefault(inode, []).append(path)
        else:
            left_out += 1
    return left_out
