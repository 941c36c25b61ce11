# SPDX-License-Identifier: Apache-2.0
"""Writes a man page for every command of estop, from their own help: `manpages.py DIR [DATE]`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click_man.core import write_man_pages

import monitor
from monitor.cli.main import COMMANDS, estop


def main() -> None:
    """Into the directory, which is made; the date is for a build that must be repeatable."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    context = click.Context(estop)
    # click-man walks `commands`, which a group that loads lazily does not fill.
    estop.commands = {
        name: found for name in COMMANDS if (found := estop.get_command(context, name))
    }
    date = sys.argv[2] if len(sys.argv) > 2 else None  # noqa: PLR2004 - the second word
    write_man_pages("estop", estop, version=monitor.__version__, target_dir=str(target), date=date)


if __name__ == "__main__":
    main()
