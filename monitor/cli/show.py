# SPDX-License-Identifier: Apache-2.0
"""Tables and lines for people. Every string of an agent's goes through `plain`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.alerts import ActionRecord, Alert
from monitor.detection.coverage import Covered
from monitor.incidents import Grant, Incident, Standing
from monitor.subjects import Session, State
from monitor.text import terminal

_PIPE_WIDTH = 200
"""Rich would fold a table to 80 columns when its reader is a program."""

_STYLES = {
    "running": "green",
    "held": "yellow",
    "frozen": "bold cyan",
    "killed": "bold red",
    "lost": "bold red",
    "failed": "bold red",
    "refused": "yellow",
    "disarmed": "yellow",
    "critical": "bold red",
    "high": "red",
    "medium": "yellow",
    "ok": "green",
    "missing": "bold red",
}

_SUBJECTS = (
    "TargetFilename",
    "QueryName",
    "DestinationHostname",
    "DestinationIp",
    "Detail",
    "CommandLine",
    "Image",
)
"""The field of an event that says most, first that is there."""


def console() -> Console:
    """Standard output, wide enough not to break lines for a program."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def plain(text: str, style: str = "") -> Text:
    """Text that neither the terminal nor rich obeys."""
    return Text(terminal(text), style=style or _STYLES.get(text, ""), overflow="fold")


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Rows in columns, or one line where there are none."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        shown.add_column(title, overflow="fold")
    for row in rows:
        shown.add_row(*(plain(cell) for cell in row))
    console().print(shown if shown.row_count else plain(empty))


def sessions(found: Sequence[Session]) -> None:
    """One line for each session."""
    rows = [
        (
            s.id,
            s.name,
            _state(s),
            s.mode,
            str(s.root_pid),
            str(s.processes),
            str(s.events),
            s.started,
            " ".join(s.hardening) or "none",
        )
        for s in found
    ]
    titles = ("ID", "NAME", "STATE", "MODE", "PID", "PROCESSES", "EVENTS", "STARTED", "HARDENING")
    table(titles, rows, "no sessions: start one with `estop run -- COMMAND`")


def _state(session: Session) -> str:
    """Of one that ended by itself, with its exit code."""
    known = session.state is State.EXITED and session.exit_code is not None
    return f"{session.state} ({session.exit_code})" if known else session.state


def alerts(found: Sequence[Alert]) -> None:
    """One line for each alert, oldest first as in a log."""
    rows = [
        (
            a.time,
            a.rule.level,
            a.outcome.action,
            a.session.name,
            a.rule.title,
            subject(a.event.get("fields", {})),
        )
        for a in reversed(found)
    ]
    table(("TIME", "LEVEL", "DONE", "SESSION", "RULE", "WHAT"), rows, "no alerts")


def incidents(found: Sequence[Incident]) -> None:
    """One line for each incident, oldest first as in a log."""
    rows = [
        (
            one.id,
            one.opened,
            one.state if one.state is Standing.OPEN else one.resolution,
            one.level,
            one.session.name,
            one.title,
            one.care.assignee or one.care.by,
        )
        for one in reversed(found)
    ]
    titles = ("ID", "OPENED", "STATE", "LEVEL", "SESSION", "WHAT", "LOOKED AFTER BY")
    table(titles, rows, "no incidents")


def grants(found: Sequence[Grant]) -> None:
    """One line for each grant."""
    rows = [
        (
            one.id,
            one.session.name,
            one.title,
            ", ".join(f"{name}={value}" for name, value in one.fields.items()) or "all of it",
            one.expires,
            one.who,
            one.why,
        )
        for one in found
    ]
    titles = ("ID", "SESSION", "RULE", "WHERE", "UNTIL", "BY", "WHY")
    table(titles, rows, "no grants hold")


def coverage(found: Sequence[Covered]) -> None:
    """One line for each technique, with its strongest rule."""
    rows = [
        (
            one.tactic,
            one.technique,
            str(len(one.rules)),
            one.strongest.response,
            one.strongest.enforcement,
            one.strongest.title,
        )
        for one in found
    ]
    titles = ("TACTIC", "TECHNIQUE", "RULES", "STRONGEST", "ENFORCED", "BY")
    table(titles, rows, "no rules")


def alert_line(alert: Alert) -> Text:
    """One alert as it happens."""
    frozen_ns = alert.timings_ns.get("frozen")
    parts = [
        plain(alert.time),
        plain(alert.rule.level),
        plain(alert.outcome.action),
        plain(alert.session.name),
        plain(f"{alert.rule.title}:"),
        plain(_about(alert)),
        plain(f"(frozen {frozen_ns / 1e6:.2f} ms after the act)" if frozen_ns else ""),
        plain(alert.outcome.detail),
    ]
    return Text(" ").join(part for part in parts if part.plain)


def action(record: ActionRecord) -> None:
    """What came of an act."""
    line = f"{record.session.name} ({record.session.id}): {record.outcome.action}"
    detail = f": {record.outcome.detail}" if record.outcome.detail else ""
    console().print(plain(line + detail))


def _about(alert: Alert) -> str:
    return subject(alert.event.get("fields", {}))


def subject(fields: Mapping[str, Any]) -> str:
    """What an event was about."""
    found = next((str(fields[name]) for name in _SUBJECTS if fields.get(name)), "")
    port = fields.get("DestinationPort")
    return f"{found} port {port}" if found and port else found
