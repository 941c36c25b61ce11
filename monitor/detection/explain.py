# SPDX-License-Identifier: Apache-2.0
"""Rules as people are shown them: with what the kernel knows of them and what that is worth here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from monitor.control import RuleInForce
from monitor.detection.enforcement import Host, of_rules
from monitor.detection.ruleset import RuleSet
from monitor.lowered import Act, Lowered, RuleLowering


class ShownWatch(msgspec.Struct, frozen=True, kw_only=True):
    """A watch with its acts by name."""

    where: str
    path: str
    hold: tuple[str, ...]
    certain: tuple[str, ...]
    exempt: tuple[str, ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One rule in full. The lists are empty where `part` is `none`."""

    rule: RuleInForce
    part: str
    reason: str
    watches: tuple[ShownWatch, ...] = ()
    networks: tuple[dict[str, Any], ...] = ()
    operations: tuple[str, ...] = ()
    sockets: tuple[dict[str, Any], ...] = ()
    taint_connects: bool = False
    """Whatever a session contacts once something in it has touched a secret is held."""


def in_force(ruleset: RuleSet, lowered: Lowered, host: Host) -> list[RuleInForce]:
    """Every rule of a set, the active ones first."""
    said = of_rules(ruleset, lowered, host)
    everyone = (*ruleset.rules, *(off.rule for off in ruleset.inactive))
    return [
        RuleInForce(
            **msgspec.structs.asdict(rule),
            enforcement=str(said[rule.id]),
            enforcement_why=said[rule.id].why,
        )
        for rule in everyone
    ]


def matching(rules: Iterable[RuleInForce], word: str) -> list[RuleInForce]:
    """Rules of this id, name or title."""
    word = word.casefold()
    return [r for r in rules if word in {r.id, r.name.casefold(), r.title.casefold()}]


def explain(rule: RuleInForce, lowering: RuleLowering | None) -> Explanation:
    """What the kernel knows of a rule. `lowering` is None for a rule that only logs or alerts."""
    if lowering is None:
        return Explanation(rule=rule, part="none", reason=rule.enforcement_why)
    return Explanation(
        rule=rule,
        part=lowering.part,
        reason=lowering.reason,
        watches=tuple(
            ShownWatch(
                where=watch.where,
                path=watch.path,
                hold=_names(watch.hold),
                certain=_names(watch.certain),
                exempt=tuple(sorted(watch.exempt)),
            )
            for watch in lowering.watches
        ),
        networks=tuple(
            {"network": one.network, "ports": one.ports, "certain": one.certain}
            for one in lowering.networks
        ),
        operations=lowering.operations,
        sockets=tuple(
            {"where": one.where, "path": one.path, "certain": one.certain}
            for one in lowering.sockets
        ),
        taint_connects=lowering.taint_connects,
    )


def _names(acts: Act) -> tuple[str, ...]:
    return tuple(str(act.name).lower() for act in acts)
