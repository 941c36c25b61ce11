# SPDX-License-Identifier: Apache-2.0
"""`estop doctor`: what this host and this daemon lack, each with its mend; it changes nothing."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click
import msgspec

from monitor.cli import show
from monitor.cli.client import Client, NotRunningError
from monitor.cli.options import common, print_json
from monitor.control import Health, RuleInForce
from monitor.detection.enforcement import Word
from monitor.requirements import Requirement, check_all


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """`ok` is false if a requirement is missing, or if a daemon answers and is not well."""

    ok: bool
    requirements: list[Requirement]
    daemon: Health | None
    """None where no daemon answers; `not_running` then says how to start one."""
    not_running: str
    rules: list[RuleInForce]


@click.command()
@common
def doctor(runtime_dir: Path, *, json_: bool) -> None:
    """Say what is missing on this host and in the daemon, and how to mend it."""
    found = _diagnose(runtime_dir)
    if json_:
        print_json(found)
    else:
        _show(found)
    sys.exit(0 if found.ok else 1)


def _diagnose(runtime_dir: Path) -> Diagnosis:
    requirements = check_all()
    health, rules, not_running = None, list[RuleInForce](), ""
    try:
        with Client(runtime_dir) as client:
            health = client.get("/health", Health)
            rules = client.get("/rules", list[RuleInForce])
    except NotRunningError as error:
        not_running = f"{error}: {error.mend}"
    met = all(found.ok for found in requirements)
    return Diagnosis(
        ok=met and (health is None or health.ok),
        requirements=requirements,
        daemon=health,
        not_running=not_running,
        rules=rules,
    )


def _show(found: Diagnosis) -> None:
    rows = [
        (r.name, "ok" if r.ok else "missing", r.detail, f"mend: {r.mend}" if r.mend else "")
        for r in found.requirements
    ]
    show.table(("HOST", "", "", ""), rows, "")
    out = show.console()
    out.print()
    if found.daemon is None:
        out.print(show.plain(found.not_running))
        return
    show.table(("DAEMON", ""), _daemon_rows(found.daemon, found.rules), "")
    for problem in found.daemon.problems:
        out.print(show.plain(f"problem: {problem}", "bold red"))


def _daemon_rows(health: Health, rules: list[RuleInForce]) -> list[tuple[str, str]]:
    missing = [name for name, attached in health.programs.items() if not attached]
    attached = f"{len(health.programs) - len(missing)} of {len(health.programs)}"
    lost = ", ".join(f"{hook} {count}" for hook, count in health.lost.items() if count)
    return [
        ("state", "ok" if health.ok else "not well"),
        ("version", health.version),
        ("tier", health.tier),
        ("programs attached", attached + (f"; not: {', '.join(missing)}" if missing else "")),
        ("hooks missing", ", ".join(health.hooks_missing) or "none"),
        ("events lost", lost or "none"),
        ("rules", (_enforced(rules) or f"{health.rules}") + _disarmed(health)),
        ("sessions", str(health.sessions)),
        ("alerts recorded", str(health.store.get("alerts", 0))),
        ("up for", f"{health.uptime_s:.0f} s"),
    ]


def _enforced(rules: list[RuleInForce]) -> str:
    """`12 prevented, 20 held, 15 detected, 1 off`, strongest first."""
    counts = Counter(rule.enforcement.split(":")[0] for rule in rules)
    return ", ".join(f"{counts[word]} {word.split()[0]}" for word in Word if counts[word])


def _disarmed(health: Health) -> str:
    return f"; disarmed: {', '.join(health.disarmed)}" if health.disarmed else ""
