# SPDX-License-Identifier: Apache-2.0
"""`estop record`: what a session does, in a file that `estop rules replay` judges without root."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from agent import launcher
from monitor.cli.client import Client, require_daemon
from monitor.cli.options import as_path, common
from monitor.errors import RecordingError
from monitor.subjects import Mode

_READY_S = 30.0
_LOOK_S = 0.02
_TELL_S = 1.0


@click.command(context_settings={"allow_interspersed_args": False})
@common
@click.option("-o", "--output", type=as_path, required=True, help="The file to write.")
@click.option("--session", help="A session that runs already (id or name).")
@click.option("--name", help="A name for the new session [default: the command's]")
@click.option("--user", help="Run the command as this user.")
@click.option("--observe", is_flag=True, help="Stop nothing, whatever the command does.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def record(
    runtime_dir: Path,
    *,
    json_: bool,
    output: Path,
    session: str | None,
    name: str | None,
    user: str | None,
    observe: bool,
    command: tuple[str, ...],
) -> None:
    """Write down what rules see of a session, until it ends.

    Either of --session, from now on, or of COMMAND, which is started as a session and recorded from
    its first act. File contents are never recorded; what looks like a secret in an argument is left
    out.
    """
    del json_  # the recording is JSON; there is nothing else to say
    if bool(command) == bool(session):
        raise click.UsageError("give either --session or a COMMAND after `--`")
    if session:
        _follow(runtime_dir, session, output)
        return
    require_daemon(runtime_dir.absolute() / "estop.sock")
    recorders: list[subprocess.Popen[bytes]] = []
    code = launcher.run(
        str(runtime_dir.absolute() / "estop.sock"),
        name=name or Path(command[0]).name,
        argv=command,
        user=user,
        mode=(Mode.OBSERVE if observe else Mode.ENFORCE).value,
        home=None,
        announce=lambda found: recorders.append(_recorder(runtime_dir, found, output)),
    )
    for recorder in recorders:
        code = code or recorder.wait()
    sys.exit(code)


def _recorder(runtime_dir: Path, session: dict[str, Any], output: Path) -> subprocess.Popen[bytes]:
    """A process of its own, that listens before the command begins and ends after it did.

    We may die of the command's signal; and Ctrl-C is for the command, not for its recording.
    """
    output.unlink(missing_ok=True)
    words = ["record", "--runtime-dir", str(runtime_dir), "-o", str(output), "--session"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "monitor.cli.main", *words, session["id"]],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + _READY_S
    while time.monotonic() < end and process.poll() is None:
        if output.exists() and output.stat().st_size:
            return process
        time.sleep(_LOOK_S)
    process.kill()
    raise RecordingError(f"the recording to {output} does not begin", mend="see above")


def _follow(runtime_dir: Path, session: str, output: Path) -> None:
    events, told = 0, time.monotonic()
    with Client(runtime_dir) as client, output.open("wb") as file:
        for line in client.lines(client.path_of(session) + "/facts"):
            file.write(line + b"\n")
            file.flush()  # the end may come at any moment
            events += b'"event"' in line
            if sys.stderr.isatty() and time.monotonic() - told > _TELL_S:
                told = time.monotonic()
                click.echo(f"\r{events} facts", nl=False, err=True)
    if sys.stderr.isatty():
        click.echo(f"\r{events} facts in {output}", err=True)
