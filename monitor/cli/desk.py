# SPDX-License-Identifier: Apache-2.0
"""`estop incidents|incident|acknowledge|assign|grant|grants|revoke`: what a responder does."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import click

from monitor.cli import show
from monitor.cli.client import Client
from monitor.cli.options import as_path, common, print_json
from monitor.cli.show_account import account as show_account
from monitor.control import ActRequest, AssignRequest, GrantRequest
from monitor.incidents import Grant, Incident
from monitor.record.account import Account
from monitor.record.queries import MAX_LIMIT, IncidentPage

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_why = click.option("--why", default="", help="The reason, for the record.")
_incident = click.argument("incident", metavar="ID")


class _Span(click.ParamType[int]):
    """`90s`, `15m`, `2h`, `1d`: seconds."""

    name = "SPAN"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Seconds."""
        found = re.fullmatch(r"(\d+)([smhd])", str(value))
        if found is None:
            self.fail(f"{value!r} is no span: write 90s, 15m, 2h or 1d", param, ctx)
        return int(found[1]) * _UNITS_S[found[2]]


@click.command()
@common
@click.option("--state", type=click.Choice(["open", "resolved"]), help="Open ones wait for you.")
@click.option("--session", help="Of this session only (id or name).")
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=20, show_default=True)
def incidents(
    runtime_dir: Path, *, json_: bool, state: str | None, session: str | None, limit: int
) -> None:
    """List the stops, newest last, and what became of them."""
    with Client(runtime_dir) as client:
        page = client.get("/incidents", IncidentPage, state=state, session=session, limit=limit)
    if json_:
        print_json(page)
    else:
        show.incidents(page.items)


@click.command()
@common
@click.option(
    "--events",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Moments of the timeline to show, those around the act.",
)
@click.option(
    "--evidence",
    type=as_path,
    metavar="FILE",
    help="Write the evidence (.tar.zst) to FILE, which must not exist.",
)
@_incident
def incident(
    runtime_dir: Path, *, json_: bool, events: int, evidence: Path | None, incident: str
) -> None:
    """Tell one incident: what happened, the process tree, the timeline, what got out.

    ID is an incident's id, or `last`.
    """
    with Client(runtime_dir) as client:
        path = _path(client, incident)
        told = client.get(path, Account)
        if evidence is not None:
            client.download(f"{path}/evidence", evidence)
    if json_:
        print_json(told)
        return
    show_account(told, events)
    if evidence is not None:
        show.console().print(show.plain(f"evidence written to {evidence}"))


@click.command()
@common
@_why
@_incident
def acknowledge(runtime_dir: Path, *, json_: bool, why: str, incident: str) -> None:
    """Say that you have seen an incident."""
    with Client(runtime_dir) as client:
        path = f"{_path(client, incident)}/acknowledge"
        found = client.post(path, Incident, ActRequest(why=why))
    _told(found, f"acknowledged by {found.care.by}", json_=json_)


@click.command()
@common
@click.option("--to", required=True, metavar="WHO", help="Who looks after it from now on.")
@_incident
def assign(runtime_dir: Path, *, json_: bool, to: str, incident: str) -> None:
    """Say who looks after an incident."""
    with Client(runtime_dir) as client:
        found = client.post(f"{_path(client, incident)}/assign", Incident, AssignRequest(to=to))
    _told(found, f"assigned to {found.care.assignee}", json_=json_)


@click.command()
@common
@click.option("--rule", required=True, metavar="ID", help="The rule that may be broken.")
@click.option(
    "--for",
    "for_s",
    type=_Span(),
    default="1h",
    show_default=True,
    help="How long: 90s, 15m, 2h, 1d.",
)
@click.option(
    "--field",
    "fields",
    metavar="NAME=VALUE",
    multiple=True,
    help="Only where the event's field has this value; may be repeated.",
)
@_why
@click.argument("session")
def grant(
    runtime_dir: Path,
    *,
    json_: bool,
    rule: str,
    for_s: int,
    fields: tuple[str, ...],
    why: str,
    session: str,
) -> None:
    """Let SESSION do for a while what a rule stops. It is not resumed by that."""
    narrowed: dict[str, str | int | bool] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        if not equals:
            raise click.BadParameter(f"{field!r} is not NAME=VALUE", param_hint="--field")
        narrowed[name] = value
    request = GrantRequest(rule=rule, fields=narrowed, for_s=for_s, why=why)
    with Client(runtime_dir) as client:
        given = client.post(f"{client.path_of(session)}/grants", Grant, request)
    if json_:
        print_json(given)
    else:
        says = f"{given.session.name} may break `{given.title}` until {given.expires} ({given.id})"
        show.console().print(show.plain(says))


@click.command()
@common
@click.option("--session", help="Of this session only (id or name).")
def grants(runtime_dir: Path, *, json_: bool, session: str | None) -> None:
    """List what sessions were given leave to do, and until when."""
    with Client(runtime_dir) as client:
        found = client.get("/grants", list[Grant], session=session)
    if json_:
        print_json(found)
    else:
        show.grants(found)


@click.command()
@common
@click.argument("grant", metavar="ID")
def revoke(runtime_dir: Path, *, json_: bool, grant: str) -> None:
    """Take a grant back before its time."""
    with Client(runtime_dir) as client:
        found = client.delete(f"/grants/{quote(grant, safe='')}", Grant)
    if json_:
        print_json(found)
    else:
        show.console().print(show.plain(f"{found.session.name}: `{found.title}` holds again"))


def _path(client: Client, incident: str) -> str:
    if incident == "last":
        newest = client.get("/incidents", IncidentPage, limit=1).items
        incident = newest[0].id if newest else incident
    return f"/incidents/{quote(incident, safe='')}"


def _told(found: Incident, what: str, *, json_: bool) -> None:
    if json_:
        print_json(found)
    else:
        show.console().print(show.plain(f"{found.session.name}: {found.title}: {what}"))
