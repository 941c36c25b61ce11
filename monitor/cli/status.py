# SPDX-License-Identifier: Apache-2.0
"""`estop` alone, and `estop top`: how things stand, once or live."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from monitor.alerts import Alert
from monitor.cli import show
from monitor.cli.client import Client
from monitor.cli.options import common, print_json
from monitor.control import Health
from monitor.incidents import Incident
from monitor.record.queries import IncidentPage, Page
from monitor.subjects import Session

_SHOWN_ALERTS = 8
_SHOWN_INCIDENTS = 10


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand: what waits for a person comes first."""

    health: Health
    incidents: list[Incident]
    """The open ones, newest first."""
    sessions: list[Session]
    """Living ones."""
    alerts: list[Alert]
    """The newest, newest first."""


@click.command()
@common
def status(runtime_dir: Path, *, json_: bool) -> None:
    """Show what waits for a person, the sessions, and whether all is well.

    Ends with 1 if an incident is open or the daemon is not well.
    """
    with Client(runtime_dir) as client:
        found = _ask(client)
    if json_:
        print_json(found)
    else:
        show.console().print(_picture(found))
    sys.exit(0 if found.health.ok and not found.incidents else 1)


@click.command()
@common
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
def top(runtime_dir: Path, *, json_: bool, every_s: float) -> None:
    """Show the sessions live, busiest first, until Ctrl-C. With --json, a line each time.

    Into a pipe or a file, one picture follows the other.
    """
    before: dict[str, int] = {}
    with Client(runtime_dir) as client, _screen() as draw:
        while True:
            found = _ask(client)
            if json_:
                print_json(found)
            else:
                rates = {
                    s.id: (s.events - before.get(s.id, s.events)) / every_s for s in found.sessions
                }
                draw(_picture(found, rates))
                before = {session.id: session.events for session in found.sessions}
            time.sleep(every_s)


@contextmanager
def _screen() -> Iterator[Callable[[Group], None]]:
    if not sys.stdout.isatty():
        out = show.console()
        yield lambda picture: out.print(picture, Text())
        return
    with Live(auto_refresh=False, screen=True) as live:
        yield lambda picture: live.update(picture, refresh=True)


def _ask(client: Client) -> Status:
    sessions = client.get("/sessions", list[Session])
    return Status(
        health=client.get("/health", Health),
        incidents=client.get(
            "/incidents", IncidentPage, state="open", limit=_SHOWN_INCIDENTS
        ).items,
        sessions=[session for session in sessions if session.state.alive],
        alerts=client.get("/alerts", Page, limit=_SHOWN_ALERTS).items,
    )


def _picture(found: Status, rates: dict[str, float] | None = None) -> Group:
    parts: list[Text | Table] = [_headline(found)]
    parts += [show.plain(f"problem: {problem}", "bold red") for problem in found.health.problems]
    for incident in found.incidents:
        parts += [Text(), *_waiting(incident)]
    parts += [Text(), _sessions(found.sessions, rates)]
    if found.alerts:
        parts += [Text(), Text("LATEST ALERTS", style="bold")]
        parts += [show.alert_line(alert) for alert in reversed(found.alerts)]
    return Group(*parts)


def _headline(found: Status) -> Text:
    health = found.health
    waiting = len(found.incidents)
    word, style = ("well", "bold green") if health.ok else ("NOT well", "bold red")
    living = len(found.sessions)
    says = f"{living} session{'' if living == 1 else 's'}, {health.rules} rules, tier {health.tier}"
    told = Text.assemble("estop is ", (word, style), f": {says}")
    if waiting:
        told.append(f"; {waiting} stopped and waiting for you", style="bold cyan")
    return told


def _waiting(incident: Incident) -> list[Text]:
    return [
        show.plain(f"■ {incident.session.name}: {incident.title}", "bold cyan"),
        show.plain(f"  {incident.sentence}"),
        show.plain(
            f"  estop incident {incident.id}, then: estop resume|kill {incident.session.name}"
        ),
    ]


def _sessions(sessions: list[Session], rates: dict[str, float] | None) -> Table:
    titles = (
        "SESSION",
        "STATE",
        "MODE",
        "PROCESSES",
        "EVENTS",
        *(("/S",) if rates else ()),
        "SINCE",
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    rates = rates or {}
    for one in sorted(sessions, key=lambda s: (-rates.get(s.id, 0.0), s.started)):
        rate = (f"{rates[one.id]:.0f}",) if one.id in rates else ()
        cells = (
            one.name,
            one.state,
            one.mode,
            str(one.processes),
            str(one.events),
            *rate,
            one.started,
        )
        table.add_row(*(show.plain(cell) for cell in cells))
    if not sessions:
        table.add_row(show.plain("none: start one with `estop run -- COMMAND`"))
    return table
