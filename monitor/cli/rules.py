# SPDX-License-Identifier: Apache-2.0
"""`estop rules check`: every problem of a rule set at once, without a daemon and without root."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from monitor.cli.options import as_json, as_path, print_json
from monitor.text import terminal


@click.group()
def rules() -> None:
    """Check signatures."""


@rules.command()
@as_json
@click.argument("directories", metavar="[DIR]...", nargs=-1, type=as_path)
def check(directories: tuple[Path, ...], *, json_: bool) -> None:
    """Check the rules in each DIR (default: those the daemon would load)."""
    from monitor.config import load  # noqa: PLC0415 - `estop --help` must be quick
    from monitor.detection.check import check as check_rules  # noqa: PLC0415
    from monitor.detection.host import host_variables  # noqa: PLC0415

    settings = load()
    variables = host_variables(settings.payment_addresses)
    report = check_rules(directories or settings.rules, variables)
    if json_:
        print_json(
            {
                "ok": report.ok,
                "rules": report.rules,
                "by_response": report.by_response,
                "by_category": report.by_category,
                "inactive": report.inactive,
                "problems": report.problems,
                "digest": report.digest,
            }
        )
    else:
        for problem in report.problems:
            click.echo(terminal(str(problem)), err=True)
        for off in report.inactive:
            click.echo(terminal(f"{off.rule.file}: off: {off.reason}"))
        counts = ", ".join(f"{n} {name}" for name, n in report.by_response.items() if n)
        click.echo(f"{len(report.rules)} rules ({counts}), {len(report.problems)} problems")
    sys.exit(0 if report.ok else 1)
