# SPDX-License-Identifier: Apache-2.0
"""A loaded set of signatures, immutable; it must not read files or evaluate anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monitor.alerts import Rule
from monitor.detection.condition import Condition, Leaf, Match, asserted


@dataclass(frozen=True, slots=True)
class Signature:
    """A rule and the condition under which it fires. `line` is where its response stands."""

    rule: Rule
    condition: Condition
    line: int = 0


@dataclass(frozen=True, slots=True)
class InactiveRule:
    """A rule that is sound but cannot fire here, and why."""

    rule: Rule
    reason: str


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What `loader.load` gives. `digest` is the SHA-256 of the source files, in their order."""

    signatures: tuple[Signature, ...] = ()
    inactive: tuple[InactiveRule, ...] = ()
    digest: str = ""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that can fire."""
        return tuple(signature.rule for signature in self.signatures)

    def watched_paths(self, homes: Sequence[str]) -> tuple[str, ...]:
        """Paths whose inode decides: any other name of the same file is the same file.

        These are the paths that a `file_*` rule names in full, and for a suffix such as
        `/.aws/credentials` the path it means in every home.
        """
        paths: set[str] = set()
        for signature in self.signatures:
            for leaf in asserted(signature.condition):
                paths.update(_spelled_out(leaf, homes))
        return tuple(sorted(paths))


def _spelled_out(leaf: Leaf, homes: Sequence[str]) -> Iterator[str]:
    path = str(leaf.value)
    if leaf.field != "TargetFilename":
        return
    if leaf.match is Match.EQUALS and path.startswith("/"):
        yield path
    elif leaf.match is Match.SUFFIX and path.startswith("/."):
        for home in homes:
            yield home.rstrip("/") + path
