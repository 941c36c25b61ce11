# SPDX-License-Identifier: Apache-2.0
"""`estop alerts` and `estop tail`: what was found, and what is being found."""

from __future__ import annotations

from pathlib import Path

import click

from monitor.alerts import Action, Level
from monitor.cli import show
from monitor.cli.client import Client
from monitor.cli.options import Command, common, print_json
from monitor.record.queries import MAX_LIMIT, Page

_REMEMBERED = 1000


def _filters(command: Command) -> Command:
    command = click.option("--session", help="Of this session only (id or name).")(command)
    levels = click.Choice([level.value for level in Level])
    return click.option("--level", type=levels, help="This severe or worse.")(command)


@click.command()
@common
@_filters
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=50, show_default=True)
@click.option("--follow", is_flag=True, help="Go on with new ones as they happen.")
def alerts(
    runtime_dir: Path,
    *,
    json_: bool,
    session: str | None,
    level: str | None,
    limit: int,
    follow: bool,
) -> None:
    """List the newest alerts, or follow new ones live."""
    if follow:
        _follow(runtime_dir, session, level, json_=json_)
        return
    with Client(runtime_dir) as client:
        page = client.get("/alerts", Page, session=session, level=level, limit=limit)
    if json_:
        print_json(page)
    else:
        show.alerts(page.items)


@click.command()
@common
@_filters
def tail(runtime_dir: Path, *, json_: bool, session: str | None, level: str | None) -> None:
    """Follow alerts live, until Ctrl-C."""
    _follow(runtime_dir, session, level, json_=json_)


def _follow(runtime_dir: Path, session: str | None, level: str | None, *, json_: bool) -> None:
    console = show.console()
    shown: dict[str, Action] = {}
    with Client(runtime_dir) as client:
        for alert in client.follow({"session": session, "level": level}):
            if json_:
                print_json(alert)
                continue
            # A person wants to hear again only if something else came of it, not of evidence.
            if shown.get(alert.id) != alert.outcome.action:
                console.print(show.alert_line(alert), soft_wrap=True)
            shown[alert.id] = alert.outcome.action
            if len(shown) > _REMEMBERED:
                del shown[next(iter(shown))]
