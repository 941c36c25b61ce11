# SPDX-License-Identifier: Apache-2.0
"""`estop completion`: the shell's own words for completing ours, as click makes them."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from monitor.cli.main import estop

_WHERE = {
    "bash": "/usr/share/bash-completion/completions/estop",
    "zsh": "/usr/share/zsh/vendor-completions/_estop",
    "fish": "/usr/share/fish/vendor_completions.d/estop.fish",
}


@click.command(epilog="\b\nWhere they go:\n" + "\n".join(f"  {s}: {p}" for s, p in _WHERE.items()))
@click.argument("shell", type=click.Choice(list(_WHERE)))
def completion(shell: str) -> None:
    """Print the completion script for SHELL, for its directory of such scripts."""
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(estop, {}, "estop", "_ESTOP_COMPLETE").source())
