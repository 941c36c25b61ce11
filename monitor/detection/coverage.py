# SPDX-License-Identifier: Apache-2.0
"""What the rules cover of MITRE ATT&CK, by the tags they carry; a table, and a Navigator layer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from monitor.control import RuleInForce

TACTICS = (
    *("reconnaissance", "resource-development", "initial-access", "execution", "persistence"),
    *("privilege-escalation", "defense-evasion", "credential-access", "discovery"),
    *("lateral-movement", "collection", "command-and-control", "exfiltration", "impact"),
)
"""Of ATT&CK for enterprises, in its order."""
OTHER = "other"
_TECHNIQUE = re.compile(r"attack\.(t\d{4}(?:\.\d{3})?)")
_LAYER_VERSION = "4.5"


class Covered(msgspec.Struct, frozen=True, kw_only=True):
    """One technique under one tactic, and the rules that carry both. `technique` may be empty."""

    tactic: str
    technique: str
    rules: tuple[RuleInForce, ...]

    @property
    def strongest(self) -> RuleInForce:
        """The rule with the strongest response."""
        return max(self.rules, key=lambda rule: rule.response.rank)


def coverage(rules: Iterable[RuleInForce]) -> list[Covered]:
    """Tactics in their order, techniques by number. A rule without a tactic is under `other`."""
    found: dict[tuple[int, str], list[RuleInForce]] = {}
    for rule in rules:
        names = [tag.removeprefix("attack.").replace("_", "-") for tag in rule.tags]
        tactics = [TACTICS.index(name) for name in names if name in TACTICS] or [len(TACTICS)]
        matches = (_TECHNIQUE.fullmatch(tag.lower()) for tag in rule.tags)
        techniques = [match[1].upper() for match in matches if match] or [""]
        for tactic in tactics:
            for technique in techniques:
                found.setdefault((tactic, technique), []).append(rule)
    return [
        Covered(tactic=(*TACTICS, OTHER)[tactic], technique=technique, rules=tuple(some))
        for (tactic, technique), some in sorted(found.items(), key=lambda pair: pair[0])
    ]


def navigator(found: Iterable[Covered]) -> dict[str, Any]:
    """A layer for the ATT&CK Navigator: the score is how strong the strongest response is."""
    return {
        "name": "estop",
        "versions": {"layer": _LAYER_VERSION},
        "domain": "enterprise-attack",
        "techniques": [
            {
                "techniqueID": one.technique,
                "tactic": one.tactic,
                "score": one.strongest.response.rank,
                "comment": "; ".join(rule.title for rule in one.rules),
            }
            for one in found
            if one.technique and one.tactic != OTHER
        ],
    }
