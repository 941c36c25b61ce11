# SPDX-License-Identifier: Apache-2.0
"""`estop unload`: the way out when no daemon is there to take its programs down; it ends no session."""

from __future__ import annotations

from pathlib import Path

import click

from monitor.cli.options import runtime_dir


@click.command()
@runtime_dir
def unload(runtime_dir: Path) -> None:
    """Remove the BPF programs that a daemon left in the kernel for its living sessions.

    A daemon that ends while sessions live leaves them followed and cut, for the next one to take
    over. After this they are neither. What is frozen or was stopped stays so; what only waited for a
    daemon goes on. Refused while a daemon runs.
    """
    from monitor.capture.pins import unload as remove  # noqa: PLC0415 - `--help` must be quick
    from monitor.response.continuing import go_on  # noqa: PLC0415

    waiting = remove(runtime_dir)
    if waiting is None:
        click.echo(f"nothing is loaded for {runtime_dir}")
        return
    go_on(waiting)
    click.echo(f"removed; processes that waited for a daemon and go on: {len(waiting)}")
