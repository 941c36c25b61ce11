# SPDX-License-Identifier: Apache-2.0
"""`estop token create|list|revoke`: who may use the API and the console over TCP."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from monitor.cli import show
from monitor.cli.client import Client
from monitor.cli.options import common, print_json
from monitor.control import NewToken, TokenRequest
from monitor.incidents import Role, Token


@click.group()
def token() -> None:
    """Make, list and revoke tokens for the API and the console."""


@token.command()
@common
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.RESPONDER.value,
    show_default=True,
    help="A viewer reads, a responder acts, an admin also reloads rules and makes tokens.",
)
@click.argument("name")
def create(runtime_dir: Path, *, json_: bool, role: str, name: str) -> None:
    """Make a token for NAME, and print its secret: it cannot be shown again."""
    with Client(runtime_dir) as client:
        made = client.post("/tokens", NewToken, TokenRequest(name=name, role=Role(role)))
    if json_:
        print_json(made)
    else:
        click.echo(made.secret)
        click.echo(f"a {made.role}'s token; the record has only its hash ({made.id})", err=True)


@token.command(name="list")
@common
def list_(runtime_dir: Path, *, json_: bool) -> None:
    """List every token ever made, without the secrets."""
    with Client(runtime_dir) as client:
        found = client.get("/tokens", list[Token])
    if json_:
        print_json(found)
    else:
        rows = [(t.id, t.name, t.role, t.created, t.created_by, t.revoked) for t in found]
        titles = ("ID", "NAME", "ROLE", "CREATED", "BY", "REVOKED")
        show.table(titles, rows, "no tokens: make one with `estop token create NAME`")


@token.command()
@common
@click.argument("token_id", metavar="ID")
def revoke(runtime_dir: Path, *, json_: bool, token_id: str) -> None:
    """Revoke a token: it opens nothing from the next request on."""
    with Client(runtime_dir) as client:
        found = client.delete(f"/tokens/{quote(token_id, safe='')}", Token)
    if json_:
        print_json(found)
    else:
        click.echo(f"revoked {found.name} ({found.id})")
