# SPDX-License-Identifier: Apache-2.0
"""The command's front door: its subcommands and its exit codes; it must not import much.

    0  done          1  an error of estop's     2  wrong usage     3  no daemon answers

`estop --help` must be quick, so a subcommand's module is imported when it is used.
"""

from __future__ import annotations

import importlib
import sys
from typing import Never

import click

import monitor
from monitor.errors import EstopError
from monitor.text import terminal

JSON_ASKED = "estop.json"
"""In the context's meta if `--json` was given: then errors are JSON too."""

_COMMANDS = {
    "daemon": ("monitor.cli.daemon", "Watch and stop sessions, in the foreground."),
    "run": ("monitor.cli.sessions", "Start an agent as a supervised session."),
    "attach": ("monitor.cli.sessions", "Supervise a process tree that already runs."),
    "sessions": ("monitor.cli.sessions", "List the sessions."),
    "freeze": ("monitor.cli.sessions", "Cut a session's network and freeze it."),
    "resume": ("monitor.cli.sessions", "Let a frozen session run again."),
    "kill": ("monitor.cli.sessions", "End every process of a session."),
    "alerts": ("monitor.cli.alerts", "List alerts, or follow them live."),
    "tail": ("monitor.cli.alerts", "Follow alerts live."),
    "record": ("monitor.cli.record", "Write down what rules see of a session."),
    "unload": ("monitor.cli.unload", "Remove what an ended daemon left in the kernel."),
    "doctor": ("monitor.cli.doctor", "Say what is missing, and how to mend it."),
    "rules": ("monitor.cli.rules", "Check, explain and try signatures."),
}


class _Lazy(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        found = getattr(importlib.import_module(_COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except EstopError as error:
            _fail(error, json_=JSON_ASKED in ctx.meta)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(monitor.__version__, prog_name="estop")
def estop() -> None:
    """The emergency stop for AI agents.

    Run an agent with `estop run -- COMMAND`. It is watched in the kernel and stopped the moment it
    does what a rule forbids; `estop tail` shows it live.
    """


def main() -> Never:
    """Run the command and end with its exit code."""
    estop.main()
    sys.exit(0)


def _fail(error: EstopError, *, json_: bool) -> Never:
    """Say what went wrong and how to mend it, on standard error."""
    if json_:
        from monitor.record.encode import to_json  # noqa: PLC0415 - `--help` need not load it

        click.echo(to_json({"error": str(error), "mend": error.mend}), err=True)
    else:
        click.echo(f"estop: error: {_lines(str(error))}", err=True)
        if error.mend:
            click.echo(f"  mend: {_lines(error.mend)}", err=True)
    sys.exit(getattr(error, "exit_code", 1))


def _lines(text: str) -> str:
    """Our own line breaks stay; everything else that could steer a terminal is shown."""
    return "\n".join(terminal(line) for line in text.split("\n"))


if __name__ == "__main__":
    main()
