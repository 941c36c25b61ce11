# SPDX-License-Identifier: Apache-2.0
"""How a rule is enforced on a host: never more than its weakest part; pure."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from monitor.alerts import Response, Rule
from monitor.detection.correlation import CATEGORY
from monitor.detection.ruleset import RuleSet
from monitor.errors import RuleProblem
from monitor.lowered import (
    KERNELS_OWN,
    NAME_BYTES,
    NAMES_BYTES,
    Act,
    Lowered,
    Part,
    RuleLowering,
    Watch,
    Where,
)
from monitor.tier import Tier


class Facility(StrEnum):
    """What acts in the kernel on this host, besides telling what happened."""

    HOLD = "hold"
    """A process is stopped before it returns from the act."""
    OPENS = "opens"
    """Opens of files that exist are refused, by fanotify."""
    NETWORK = "network"
    """Connections and packets are refused, by cgroup hooks."""
    PROGRAMS = "programs"
    """Whom a rule forgives is known, by inode: not on btrfs, nor on an overlay over two filesystems."""


@dataclass(frozen=True, slots=True)
class Host:
    """What the daemon found here. The LSM tier refuses whatever is certain."""

    tier: Tier
    facilities: frozenset[Facility]


USUAL_HOST = Host(Tier.TRACEPOINT, frozenset(Facility))
"""What is assumed where no daemon can be asked."""


class Word(StrEnum):
    """The four things that can be said; `OFF` is followed by its reason."""

    PREVENTED = "prevented in kernel"
    HELD = "held in kernel"
    DETECTED = "detected in user space"
    OFF = "off"


class Enforcement(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one rule on one host."""

    word: Word
    why: str

    def __str__(self) -> str:
        return f"{self.word}: {self.why}" if self.word is Word.OFF else str(self.word)


_REFUSED_OPENS = Act.READ | Act.WRITE
"""Not EXEC: what a program is started with is not known yet when its file is asked about."""


_FOLLOWING = Act.TRUNCATE | Act.CHMOD | Act.LINK_FROM
"""On the tracepoint tier these are known by the caller's words; their last name may be that of a link."""
_SPELT = Act.RENAME_TO | Act.RENAME_FROM | Act.DELETE | Act.LINK_TO | Act.SYMLINK
"""These too, and their last name is the file's own."""


def enforcement(rule: Rule, lowering: RuleLowering | None, host: Host) -> Enforcement:
    """What becomes of an act that the rule forbids. `lowering` is None for a rule that only tells."""
    if rule.category == CATEGORY:
        why = "what several events make together is known with the last of them"
        return Enforcement(word=Word.DETECTED, why=why)
    if lowering is None:
        why = f"its response is {rule.response}: there is nothing to hold"
        return Enforcement(word=Word.DETECTED, why=why)
    if why := _not_held(lowering, host):
        holds = lowering.part is not Part.NONE and Facility.HOLD in host.facilities
        also = "; what is watched is held" if holds else ""
        return Enforcement(word=Word.DETECTED, why=why + also)
    if lowering.part is Part.WHOLE and not (not_refused := _not_refused(lowering, host)):
        return Enforcement(word=Word.PREVENTED, why=lowering.reason)
    if Facility.HOLD not in host.facilities:
        why = f"nothing is held on this host: {lowering.reason}"
        return Enforcement(word=Word.DETECTED, why=why)
    why = lowering.reason if lowering.part is Part.PART else not_refused
    return Enforcement(word=Word.HELD, why=why)


def of_rules(ruleset: RuleSet, lowered: Lowered, host: Host) -> dict[str, Enforcement]:
    """Rule id -> how it is enforced, for every rule of the set, active or not."""
    found = {rule.id: enforcement(rule, lowered.rules.get(rule.id), host) for rule in ruleset.rules}
    off = {one.rule.id: Enforcement(word=Word.OFF, why=one.reason) for one in ruleset.inactive}
    return found | off


def problems(ruleset: RuleSet, lowered: Lowered, host: Host) -> list[RuleProblem]:
    """Rules that ask the kernel to refuse what it cannot refuse here: errors, at load."""
    found = of_rules(ruleset, lowered, host)
    return [
        RuleProblem(s.rule.file, s.line, f"`response: deny`: {_short(found[s.rule.id])}", _MEND)
        for s in ruleset.signatures
        if s.rule.response is Response.DENY and found[s.rule.id].word is not Word.PREVENTED
    ]


_MEND = "use `freeze`"


def _short(found: Enforcement) -> str:
    can = "can only hold" if found.word is Word.HELD else "can only detect"
    return f"this host {can} what the rule forbids: {found.why}"


def _not_refused(lowering: RuleLowering, host: Host) -> str:
    """The first thing the rule forbids that this host cannot refuse, or nothing."""
    if host.tier is Tier.LSM:
        known = Facility.PROGRAMS in host.facilities or not any(w.exempt for w in lowering.watches)
        return (
            "" if known else "the programs that the rule forgives are not known in the kernel here"
        )
    if lowering.networks and Facility.NETWORK not in host.facilities:
        return "connections are not refused here"
    if lowering.sockets:
        return "connections to local sockets are not refused on this tier"
    opens = _REFUSED_OPENS if Facility.OPENS in host.facilities else Act(0)
    for watch in lowering.watches:
        if watch.hold & ~opens:
            return f"{_names(watch.hold & ~opens)} of {watch.path} is not refused on this tier"
        if watch.where is not Where.EXACT or watch.path.startswith(KERNELS_OWN):
            which = "whole paths outside /dev, /proc and /sys"
            return f"only {which} are refused on this tier, not {watch.where} {watch.path}"
    return ""


def _not_held(lowering: RuleLowering, host: Host) -> str:
    """Why a way to do what the rule forbids passes by what is watched on this host, or nothing."""
    if lowering.part in {Part.SOME, Part.NONE}:
        return lowering.reason
    for watch in lowering.watches:
        acts, why = _passes_by(watch, host.tier)
        if acts:
            return f"{_names(acts)} of {watch.path} {why}"
    return ""


def _passes_by(watch: Watch, tier: Tier) -> tuple[Act, str]:
    """Acts on what is watched that the kernel side does not always see, and why."""
    parts = os.fsencode(watch.path).strip(b"/").split(b"/")
    if sum(len(part) + 1 for part in parts) + 1 >= NAMES_BYTES:
        return watch.hold, f"is longer than {NAMES_BYTES - 2} bytes, which the kernel side compares"
    if tier is Tier.LSM:
        return Act.NOTHING, ""
    if acts := watch.hold & _FOLLOWING:
        return acts, "is known by the caller's words, which may be those of a link"
    acts = watch.hold & _SPELT
    if watch.where is Where.BELOW or (watch.where is Where.ENDING and len(parts) > 1):
        return acts, "is known by the last two of the caller's words, which may be others"
    if max(map(len, parts)) >= NAME_BYTES:
        return acts, f"is known by names shorter than {NAME_BYTES} bytes"
    return Act.NOTHING, ""


def _names(acts: Iterable[Act]) -> str:
    return ", ".join(str(act.name).lower() for act in acts)
