# SPDX-License-Identifier: Apache-2.0
"""`estop run|attach|sessions|freeze|resume|kill`: what a person does with sessions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from monitor.alerts import ActionRecord
from monitor.cli import show
from monitor.cli.client import Client, require_daemon
from monitor.cli.options import common, print_json
from monitor.control import ActRequest, AttachRequest
from monitor.record.encode import to_json
from monitor.subjects import Mode, Session

_observe = click.option("--observe", is_flag=True, help="Stop nothing; say what would have been.")
_home = click.option(
    "--agent-home", "--home", "home", metavar="DIR", help="The directory of the agent's own files."
)
_why = click.option("--why", default="", help="The reason, for the record.")
_session = click.argument("session")


@click.command(context_settings={"allow_interspersed_args": False})
@common
@click.option("--name", help="A name for the session [default: the command's]")
@click.option("--user", help="Run the agent as this user.")
@_observe
@_home
@click.option(
    "--allow-new-privileges",
    is_flag=True,
    help="Let sudo, setuid programs and file capabilities work. Unless root starts the agent, "
    "seccomp and Landlock are then impossible.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    runtime_dir: Path,
    *,
    json_: bool,
    name: str | None,
    user: str | None,
    observe: bool,
    home: str | None,
    allow_new_privileges: bool,
    command: tuple[str, ...],
) -> None:
    """Start COMMAND as a supervised session, in the caller's terminal, and end as it ends."""
    from agent import launcher  # noqa: PLC0415 - `estop sessions` need not load it

    path = runtime_dir.absolute() / "estop.sock"
    require_daemon(path)
    mode = Mode.OBSERVE if observe else Mode.ENFORCE
    sys.exit(
        launcher.run(
            str(path),
            name=name or Path(command[0]).name,
            argv=command,
            user=user,
            mode=mode.value,
            home=home,
            allow_new_privileges=allow_new_privileges,
            # Standard output is the agent's own.
            announce=_announce if json_ else None,
        )
    )


def _announce(session: dict[str, Any]) -> None:
    click.echo(to_json(session), err=True)


@click.command()
@common
@click.option("--pid", type=click.IntRange(min=2), required=True, help="The tree's first process.")
@click.option("--name", default="", help="A name for the session [default: the command's]")
@_observe
@_home
def attach(
    runtime_dir: Path, *, json_: bool, pid: int, name: str, observe: bool, home: str | None
) -> None:
    """Supervise a process tree that already runs."""
    mode = Mode.OBSERVE if observe else Mode.ENFORCE
    request = AttachRequest(pid=pid, name=name, mode=mode, home=home or "")
    with Client(runtime_dir) as client:
        session = client.post("/sessions/attach", Session, request)
    if json_:
        print_json(session)
    else:
        how = f"session {session.id} ({session.name}): {session.origin} in {session.cgroup}"
        show.console().print(show.plain(how))


@click.command()
@common
@click.option("--past", is_flag=True, help="Those of earlier runs of the daemon too.")
def sessions(runtime_dir: Path, *, json_: bool, past: bool) -> None:
    """List the sessions."""
    with Client(runtime_dir) as client:
        found = client.get("/sessions", list[Session], past="true" if past else None)
    if json_:
        print_json(found)
    else:
        show.sessions(found)


def _act(runtime_dir: Path, session: str, verb: str, why: str, *, json_: bool) -> None:
    with Client(runtime_dir) as client:
        path = f"{client.path_of(session)}/{verb}"
        record = client.post(path, ActionRecord, ActRequest(why=why))
    if json_:
        print_json(record)
    else:
        show.action(record)


@click.command()
@common
@_why
@_session
def freeze(runtime_dir: Path, *, json_: bool, why: str, session: str) -> None:
    """Cut a session's network and freeze it."""
    _act(runtime_dir, session, "freeze", why, json_=json_)


@click.command()
@common
@_why
@_session
def resume(runtime_dir: Path, *, json_: bool, why: str, session: str) -> None:
    """Let a frozen session run again."""
    _act(runtime_dir, session, "resume", why, json_=json_)


@click.command()
@common
@_why
@_session
def kill(runtime_dir: Path, *, json_: bool, why: str, session: str) -> None:
    """End every process of a session, and prove that none is left."""
    _act(runtime_dir, session, "kill", why, json_=json_)
