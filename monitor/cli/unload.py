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
    over. After this they are neither; what is frozen stays frozen. Refused while a daemon runs.
    """
    from monitor.capture.pins import unload as remove  # noqa: PLC0415 - `--help` must be quick

    removed = remove(runtime_dir)
    click.echo("removed" if removed else f"nothing is loaded for {runtime_dir}")
