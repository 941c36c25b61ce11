# SPDX-License-Identifier: Apache-2.0
"""A loaded set of signatures, immutable; it must not read files or evaluate anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monitor.alerts import Rule
from monitor.detection.condition import Condition, Leaf, Match, asserted
from monitor.detection.correlation import Correlation


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
    correlations: tuple[Correlation, ...] = ()
    """Those that refer to others come after them."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that can fire."""
        return (
            *(signature.rule for signature in self.signatures),
            *(correlation.rule for correlation in self.correlations),
        )

    @property
    def muted(self) -> frozenset[str]:
        """Ids of the rules that are only there for correlations: their matches are not told of.

        A correlation with `generate` has those it refers to speak, whatever others say. A rule that
        stops or refuses is never muted: a stop must not depend on a correlation beside it.
        """
        silent = {id_ for one in self.correlations if not one.generate for id_ in one.references}
        loud = {id_ for one in self.correlations if one.generate for id_ in one.references}
        acting = {rule.id for rule in self.rules if rule.response.holds}
        return frozenset(silent - loud - acting)

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
