# SPDX-License-Identifier: Apache-2.0
"""One rule for people: its condition as the kernel knows it, and what that is worth on this host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from monitor.cli import show
from monitor.cli.client import Client, NotRunningError, RefusedError
from monitor.config import load
from monitor.control import RuleInForce
from monitor.detection.enforcement import USUAL_HOST
from monitor.detection.explain import Explanation, explain, in_force, matching
from monitor.detection.lower import lower
from monitor.detection.ruleset import RuleSet
from monitor.errors import EstopError
from monitor.lowered import Lowered
from monitor.rulebook import read_rules

_UNKNOWN = "unknown here: as on the tracepoint tier; start the daemon to know"


def explained(runtime_dir: Path, word: str, directories: Sequence[Path]) -> Explanation:
    """The rule that `word` means, or an EstopError that lists what there is."""
    ruleset, lowered = _read(directories)
    found = matching(in_force(ruleset, lowered, USUAL_HOST), word)
    if len(found) != 1:
        how = f"{len(found)} rules have" if found else "no rule has"
        raise EstopError(
            f"{how} the id, name or title {word!r}", mend="see `estop rules check --json`"
        )
    (rule,) = _as_loaded(runtime_dir, found)
    return explain(rule, lowered.rules.get(rule.id))


def rules_here(runtime_dir: Path, directories: Sequence[Path]) -> list[RuleInForce]:
    """Every rule with how it is enforced on this host."""
    ruleset, lowered = _read(directories)
    return _as_loaded(runtime_dir, in_force(ruleset, lowered, USUAL_HOST))


def _read(directories: Sequence[Path]) -> tuple[RuleSet, Lowered]:
    ruleset = read_rules(load(), directories)
    return ruleset, lower(ruleset)


def _as_loaded(runtime_dir: Path, rules: Sequence[RuleInForce]) -> list[RuleInForce]:
    """Rules with what the daemon says of them, where one answers and has them loaded."""
    try:
        with Client(runtime_dir) as client:
            loaded = {rule.id: rule for rule in client.get("/rules", list[RuleInForce])}
    except (NotRunningError, RefusedError):
        loaded = {}
    return [loaded.get(rule.id) or _unknown_here(rule) for rule in rules]


def _unknown_here(rule: RuleInForce) -> RuleInForce:
    return replace(rule, enforcement_why=f"{rule.enforcement_why} ({_UNKNOWN})")


def show_explanation(found: Explanation) -> None:
    """The rule, how it is enforced, and what the kernel is told."""
    rule, out = found.rule, show.console()
    show.table(
        ("RULE", ""),
        [
            ("title", rule.title),
            ("name", rule.name),
            ("id", rule.id),
            ("file", rule.file),
            ("category", rule.category),
            ("level", rule.level),
            ("response", rule.response),
            ("description", rule.description),
            ("enforcement", rule.enforcement),
            ("why", rule.enforcement_why),
            ("in the kernel", f"{found.part}: {found.reason}"),
        ],
        "",
    )
    for title, rows in _tables(found):
        if rows:
            out.print()
            show.table(title, rows, "")


def _tables(found: Explanation) -> list[tuple[Sequence[str], list[Sequence[str]]]]:
    sets = list(dict.fromkeys(w.exempt for w in found.watches if w.exempt))
    watches: list[Sequence[str]] = [
        (w.where, w.path, ", ".join(w.hold), ", ".join(w.certain), _set(sets, w.exempt))
        for w in found.watches
    ]
    exempt: list[Sequence[str]] = [(_set(sets, one), ", ".join(one)) for one in sets]
    networks: list[Sequence[str]] = [
        (n["network"], ", ".join(map(str, n["ports"])) or "any", _sure(certain=n["certain"]))
        for n in found.networks
    ]
    sockets: list[Sequence[str]] = [
        (s["where"], s["path"], _sure(certain=s["certain"])) for s in found.sockets
    ]
    return [
        (("PATH", "", "HOLD", "CERTAIN", "EXEMPT"), watches),
        (("EXEMPT", ""), exempt),
        (("NETWORK", "PORTS", ""), networks),
        (("SOCKET", "", ""), sockets),
        (("OPERATION",), [(name,) for name in found.operations]),
        (("SESSION", "", ""), [_TAINTED] if found.taint_connects else []),
    ]


_TAINTED = ("has touched a secret", "any contact", "hold")


def _set(sets: Sequence[tuple[str, ...]], one: tuple[str, ...]) -> str:
    return f"set {sets.index(one) + 1}" if one else ""


def _sure(*, certain: bool) -> str:
    return "certain" if certain else "hold"
