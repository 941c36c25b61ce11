# SPDX-License-Identifier: Apache-2.0
"""The command's front door: its subcommands and its exit codes; it must not import much.

    0  done          1  an error of estop's, or something to look at
    2  wrong usage   3  no daemon answers

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

COMMANDS = {
    "status": ("monitor.cli.status", "Show what waits for you, the sessions, and the health."),
    "top": ("monitor.cli.status", "Show the sessions live."),
    "daemon": ("monitor.cli.daemon", "Watch and stop sessions, in the foreground."),
    "run": ("monitor.cli.sessions", "Start an agent as a supervised session."),
    "attach": ("monitor.cli.sessions", "Supervise a process tree that already runs."),
    "sessions": ("monitor.cli.sessions", "List the sessions."),
    "freeze": ("monitor.cli.sessions", "Cut a session's network and freeze it."),
    "resume": ("monitor.cli.sessions", "Let a frozen session run again."),
    "kill": ("monitor.cli.sessions", "End every process of a session."),
    "incidents": ("monitor.cli.desk", "List the stops and what became of them."),
    "incident": ("monitor.cli.desk", "Tell one stop: tree, timeline, what got out."),
    "acknowledge": ("monitor.cli.desk", "Say that you have seen an incident."),
    "assign": ("monitor.cli.desk", "Say who looks after an incident."),
    "grant": ("monitor.cli.desk", "Let a session do for a while what a rule stops."),
    "grants": ("monitor.cli.desk", "List the grants that hold."),
    "revoke": ("monitor.cli.desk", "Take a grant back."),
    "alerts": ("monitor.cli.alerts", "List alerts, or follow them live."),
    "tail": ("monitor.cli.alerts", "Follow alerts live."),
    "record": ("monitor.cli.record", "Write down what rules see of a session."),
    "unload": ("monitor.cli.unload", "Remove what an ended daemon left in the kernel."),
    "doctor": ("monitor.cli.doctor", "Say what is missing, and how to mend it."),
    "selftest": ("monitor.cli.selftest", "Prove that a violation is seen, stopped and told."),
    "rules": ("monitor.cli.rules", "Check, explain and try signatures."),
    "token": ("monitor.cli.token", "Make and revoke tokens for the API and the console."),
    "completion": ("monitor.cli.completion", "Print completion for bash, zsh or fish."),
}


class _Lazy(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        found = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
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
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


@click.group(
    cls=_Lazy, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(monitor.__version__, prog_name="estop")
@click.pass_context
def estop(context: click.Context) -> None:
    """The emergency stop for AI agents.

    Run an agent with `estop run -- COMMAND`. It is watched in the kernel and stopped the moment it
    does what a rule forbids; `estop tail` shows it live. Without a command: `estop status`.
    """
    if context.invoked_subcommand is None:
        found = estop.get_command(context, "status")
        assert found is not None
        with found.make_context("status", [], parent=context) as asked:
            found.invoke(asked)


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
