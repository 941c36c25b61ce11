# SPDX-License-Identifier: Apache-2.0
"""Options that commands share, and the two ways to print; it must not reach the daemon."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from monitor.cli.main import JSON_ASKED
from monitor.record.encode import to_json

DEFAULT_RUNTIME_DIR = Path("/run/estop")

Command = TypeVar("Command", bound=Callable[..., Any])

as_path = click.Path(path_type=Path)


def common(command: Command) -> Command:
    """`--runtime-dir` and `--json`, which every command that speaks to a daemon takes."""
    return runtime_dir(as_json(command))


def runtime_dir(command: Command) -> Command:
    """Which daemon to speak to."""
    return click.option(
        "--runtime-dir",
        type=as_path,
        default=DEFAULT_RUNTIME_DIR,
        show_default=True,
        envvar="ESTOP_RUNTIME_DIR",
        help="The runtime directory of the daemon to speak to.",
    )(command)


def as_json(command: Command) -> Command:
    """For programs: answers on standard output and errors on standard error, both as JSON."""
    return click.option(
        "--json",
        "json_",
        is_flag=True,
        callback=_note_json,
        is_eager=True,
        help="Speak JSON, for programs; errors too, on standard error.",
    )(command)


def _note_json(context: click.Context, _option: click.Parameter, given: bool) -> bool:  # noqa: FBT001
    if given:
        context.meta[JSON_ASKED] = True
    return given


def print_json(value: object) -> None:
    """One JSON document on a line of its own."""
    sys.stdout.buffer.write(to_json(value) + b"\n")
    sys.stdout.buffer.flush()
