# SPDX-License-Identifier: Apache-2.0
"""The rules in force, and how they are exchanged while everything runs: whole, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from monitor.alerts import Rule
from monitor.config import Settings
from monitor.control import RuleChanges, RuleInForce
from monitor.detection import loader
from monitor.detection.correlation import Correlation
from monitor.detection.enforcement import Host, problems
from monitor.detection.engine import Engine
from monitor.detection.explain import in_force
from monitor.detection.host import host_variables
from monitor.detection.lower import lower
from monitor.detection.ruleset import RuleSet, Signature
from monitor.errors import RuleError
from monitor.lowered import Lowered

_log = structlog.get_logger()


def variables_of(settings: Settings) -> dict[str, list[str]]:
    """What the variables of rules mean on this host."""
    return host_variables(
        settings.payment_addresses, settings.own_directories, settings.own_secrets
    )


def read_rules(
    settings: Settings,
    directories: Sequence[Path] = (),
    variables: Mapping[str, Sequence[str]] | None = None,
) -> RuleSet:
    """All signatures of these directories, or else of the settings; RuleError with every reason."""
    if variables is None:
        variables = variables_of(settings)
    return loader.load(directories or settings.rules, variables=variables)


class Follower(Protocol):
    """Who tells the kernel of the rules: `response.verdicts.Verdicts`, `response.marks.Marks`."""

    def replace(self, lowered: Lowered) -> None:
        """Go by these watches from now on. RuleError, and nothing changed, where that cannot be."""
        ...


class Rulebook:
    """One for the monitor. `reload` may be called from any thread."""

    def __init__(
        self,
        ruleset: RuleSet,
        lowered: Lowered,
        host: Host,
        *,
        load: Callable[[], RuleSet],
        engine: Engine,
        followers: Sequence[Follower],
        watch: Callable[[RuleSet], None],
        done: Callable[[Sequence[str]], None],
    ) -> None:
        """`watch` is given new rules, `done` the ids of what changed, at the end."""
        self._ruleset = ruleset
        self._host = host
        self._in_force = in_force(ruleset, lowered, host)
        self._load = load
        self._engine = engine
        self._lock = threading.Lock()
        self._followers, self._watch, self._done = followers, watch, done
        _warn_if_nothing_is_stopped(ruleset)

    def in_force(self) -> list[RuleInForce]:
        """Every rule with what it is worth on this host."""
        return list(self._in_force)

    def reload(self) -> RuleChanges:
        """Read the rules again. RuleError with every reason where that fails: the old ones stay."""
        with self._lock:
            ruleset = self._load()
            lowered = lower(ruleset)
            if unenforceable := problems(ruleset, lowered, self._host):
                raise RuleError(unenforceable)
            changes, touched = _compared(self._ruleset, ruleset)
            # The kernel first: what it holds for rules that nobody evaluates yet is released again.
            for follower in self._followers:
                follower.replace(lowered)
            self._engine.replace(ruleset)
            self._watch(ruleset)
            self._ruleset = ruleset
            self._in_force = in_force(ruleset, lowered, self._host)
            self._done(touched)
        _log.info(
            "rules.reloaded",
            rules=changes.rules,
            added=len(changes.added),
            removed=len(changes.removed),
            changed=len(changes.changed),
        )
        _warn_if_nothing_is_stopped(ruleset)
        return changes


def _warn_if_nothing_is_stopped(ruleset: RuleSet) -> None:
    """Directories of `rules` take the place of those that come with estop, which is easily forgotten."""
    known = _by_id(ruleset).values()
    if not any(one.rule.response.holds for one in known):
        _log.warning(
            "rules.nothing_is_stopped",
            rules=len(known),
            mend="name estop's own rules too: `--rules rules --rules DIR`",
        )


def _compared(old: RuleSet, new: RuleSet) -> tuple[RuleChanges, list[str]]:
    """What is different, and the ids of all of it."""
    before, after = _by_id(old), _by_id(new)
    added = [after[i].rule for i in after.keys() - before.keys()]
    removed = [before[i].rule for i in before.keys() - after.keys()]
    common = after.keys() & before.keys()
    changed = [after[i].rule for i in common if _differ(before[i], after[i])]
    changes = RuleChanges(
        rules=len(after), added=_titles(added), removed=_titles(removed), changed=_titles(changed)
    )
    return changes, [rule.id for rule in (*added, *removed, *changed)]


def _by_id(ruleset: RuleSet) -> dict[str, Signature | Correlation]:
    found: list[Signature | Correlation] = [*ruleset.signatures, *ruleset.correlations]
    return {one.rule.id: one for one in found}


def _differ(one: Signature | Correlation, other: Signature | Correlation) -> bool:
    """Where a rule stands in its file does not matter."""
    if isinstance(one, Signature) and isinstance(other, Signature):
        return (one.rule, one.condition) != (other.rule, other.condition)
    return one != other


def _titles(rules: Sequence[Rule]) -> tuple[str, ...]:
    return tuple(sorted(f"{rule.title} ({rule.id})" for rule in rules))
