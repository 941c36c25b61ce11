# SPDX-License-Identifier: Apache-2.0
"""Signatures to what the kernel can judge of them; pure, and it knows no host.

For each signature that stops or refuses, and each case of its category: what is known of the case
is folded into the condition, the rest gives comparisons of which one must hold (`necessary.py`),
and for each of those it is asked what the condition still needs once it holds. If that is nothing,
the kernel may refuse by itself; if that is nothing but another program, it is so for all programs
except those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache

from monitor.detection import merge
from monitor.detection.atoms import OnAddress, OnTaint
from monitor.detection.cases import CASES, Case, Kind
from monitor.detection.condition import Condition, Leaf
from monitor.detection.exempt import without_exempt
from monitor.detection.fold import FALSE, TRUE, Decide, fold, forget, holds, leaves
from monitor.detection.merge import Entry, Reach, Shared, Socket
from monitor.detection.necessary import Atom, atom_of, necessary, port
from monitor.detection.ruleset import RuleSet, Signature
from monitor.lowered import Act, Lowered, Part, RuleLowering, Where

_UNCONNECTED = "a datagram without a connect is gone when it is known"
"""To hold it is to lose it, and who asks for a name would wait for seconds."""
_TOLD = 3
"""Reasons that are told; a rule of a hundred leaves has as many."""


def lower(ruleset: RuleSet) -> Lowered:
    """All signatures that hold or refuse, together and each by itself."""
    wanted = [s for s in ruleset.signatures if s.rule.response.holds]
    found = [_of_rule(signature) for signature in wanted]
    watches = merge.watches([entry for one in found for entry in one.entries])
    operations: defaultdict[str, set[str]] = defaultdict(set)
    for signature, one in zip(wanted, found, strict=True):
        for name in one.operations:
            operations[name].add(signature.rule.id)
    forget()
    sockets = merge.sockets([socket for one in found for socket in one.sockets])
    shared = merge.shared(watches, sockets)
    names = {s.rule.id: s.rule.name or s.rule.title for s in wanted}
    return Lowered(
        watches=watches,
        networks=merge.networks([reach for one in found for reach in one.reaches]),
        operations={name: frozenset(rules) for name, rules in sorted(operations.items())},
        sockets=sockets,
        taint_connects=frozenset(one.rule for one in found if one.taint_connects),
        rules={s.rule.id: _told(one, shared, names) for s, one in zip(wanted, found, strict=True)},
    )


class _Findings:
    """What one signature gave so far."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.entries: list[Entry] = []
        self.reaches: list[Reach] = []
        self.sockets: list[Socket] = []
        self.operations: list[str] = []
        self.taint_connects = False
        self.left: dict[str, None] = {}
        self.needs: dict[str, None] = {}
        self.without_exempt = cache(without_exempt)  # most comparisons leave the same behind

    @property
    def any(self) -> bool:
        """Is there anything the kernel could look for?"""
        found = self.entries or self.reaches or self.sockets or self.operations
        return bool(found) or self.taint_connects


def _of_rule(signature: Signature) -> _Findings:
    findings = _Findings(signature.rule.id)
    for case in CASES[signature.rule.category]:
        condition = fold(signature.condition, _known(case))
        named = not case.only or any(case.only in leaf.fields for leaf in leaves(condition))
        if named and condition != FALSE:
            _of_case(case, condition, findings)
    return findings


def _known(case: Case) -> Decide:
    def decide(leaf: Leaf) -> bool | None:
        alone = len(leaf.fields) == 1 and leaf.field in case.known
        return holds(leaf, case.known[leaf.field]) if alone else None

    return decide


def _of_case(case: Case, condition: Condition, findings: _Findings) -> None:
    if case.kind is Kind.OPERATION:
        findings.operations.append(case.name)
        findings.needs |= {leaf.field: None for leaf in leaves(condition)}
        return
    if case.kind is Kind.NOTHING:
        findings.left[f"{case.name}: {case.why}"] = None
        return
    found = necessary(condition, atom_of(case))
    findings.left |= {f"{case.name}: {reason}": None for reason in found.left}
    for atom in found.atoms:
        _of_atom(case, condition, atom, findings)


def _of_atom(case: Case, condition: Condition, atom: Atom, findings: _Findings) -> None:
    """What the condition still needs, once the atom holds, decides what the kernel may do."""
    rest = fold(condition, atom.decides)
    if rest == FALSE:
        return
    rule = findings.rule
    if isinstance(atom, OnTaint):
        findings.taint_connects = True
        findings.left[_UNCONNECTED] = None
        findings.needs |= {leaf.field: None for leaf in leaves(rest)}
    elif isinstance(atom, OnAddress):
        found = list(_with_ports(atom, rest))
        findings.reaches += [Reach(one, after == TRUE, rule) for one, after in found]
        findings.needs |= {x.field: None for _, after in found for x in leaves(after)}
    elif case.kind is Kind.SOCKET:
        findings.sockets.append(Socket(atom.where, atom.path, rest == TRUE, rule))
        findings.needs |= {leaf.field: None for leaf in leaves(rest)}
    else:
        act = case.acts[atom.field]
        exempt, after = (
            findings.without_exempt(rest) if act is not Act.EXEC else (frozenset(), rest)
        )
        findings.entries.append(Entry(atom, act, after == TRUE, exempt, rule))
        findings.needs |= {leaf.field: None for leaf in leaves(after)}


def _with_ports(atom: OnAddress, rest: Condition) -> Iterator[tuple[OnAddress, Condition]]:
    """The same address with each port that the rest asks for, and what it then still needs."""
    ports = necessary(rest, port)
    found = [one for one in ports.atoms if isinstance(one, OnAddress) and not one.network]
    if not found or ports.left or atom.port:
        yield atom, rest
        return
    for one in found:
        after = fold(rest, one.decides)
        if after != FALSE:
            yield OnAddress(atom.network, one.port), after


def _told(
    found: _Findings, shared: Mapping[tuple[Where, str], Shared], names: Mapping[str, str]
) -> RuleLowering:
    """What became of one signature; what it must share with others can make it less."""
    lowering = RuleLowering(
        Part.WHOLE,
        "the kernel knows all that it asks",
        merge.watches(found.entries),
        merge.networks(found.reaches),
        tuple(sorted(found.operations)),
        merge.sockets(found.sockets),
        found.taint_connects,
    )
    if found.left:
        more = f" (and {len(found.left) - _TOLD} more)" if len(found.left) > _TOLD else ""
        reason = "; ".join([*found.left][:_TOLD]) + more
        return replace(lowering, part=Part.SOME if found.any else Part.NONE, reason=reason)
    if not found.any:
        return replace(lowering, part=Part.NONE, reason="no event can match it")
    if found.needs:
        fields = ", ".join(f"`{name}`" for name in found.needs)
        return replace(lowering, part=Part.PART, reason=f"more is asked of {fields}")
    if found.operations:
        reason = "an operation can be held, and not refused"
        return replace(lowering, part=Part.PART, reason=reason)
    for watch in lowering.watches:
        among = shared[watch.where, watch.path]
        if watch.hold & ~among.certain:
            others = ", ".join(f"`{names[rule]}`" for rule in sorted(among.rules - {found.rule}))
            reason = f"{others or 'the rule itself'} forgives other programs on {watch.path}"
            return replace(lowering, part=Part.PART, reason=reason)
    return lowering
