# SPDX-License-Identifier: Apache-2.0
"""What happened, as tables for a terminal; it must not obey control characters of an agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from agent.text import shown


@dataclass(frozen=True, slots=True)
class Act:
    """One forbidden thing; `word` is what the demo agent calls it."""

    word: str
    title: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an act. `alert` is the one that stopped the session."""

    act: Act
    alert: dict[str, Any] | None
    went_on: bool

    @property
    def stopped(self) -> bool:
        """An alert says that the session was stopped, and the agent did not go on."""
        return self.alert is not None and not self.went_on


def act_table(results: Sequence[Result]) -> Table:
    """One row for each act of the demo."""
    table = Table(title="What the agent did, and what became of it")
    for column in ("act", "signature", "done"):
        table.add_column(column)
    for column in ("syscall to stopped", "bytes out"):
        table.add_column(column, justify="right")
    for result in results:
        cells = map(_cell, _cells(result))
        table.add_row(result.act.title, *cells, style=None if result.stopped else "red")
    return table


def _cells(result: Result) -> tuple[str, ...]:
    if result.alert is None:
        return "-", "went on" if result.went_on else "no alert", "-", "-"
    outcome = result.alert["outcome"]
    done = f"{outcome['action']}, but the agent went on" if result.went_on else outcome["action"]
    bytes_out = outcome.get("bytes_out")
    return (
        result.alert["rule"]["title"],
        done,
        _duration(result.alert["timings_ns"].get("frozen")),
        "unknown" if bytes_out is None else str(bytes_out),
    )


def _cell(text: str) -> Text:
    """Neither markup nor an escape sequence is obeyed."""
    return Text(shown(text))


def _duration(span_ns: int | None) -> str:
    return "unknown" if span_ns is None else f"{span_ns / 1e6:.2f} ms"


def alert_table(name: str, alerts: Sequence[dict[str, Any]]) -> Table:
    """The alerts of one session, oldest first."""
    table = Table(title=f"alerts of {name}")
    for column in ("time", "signature", "level", "done"):
        table.add_column(column)
    for alert in reversed(alerts):
        rule, outcome = alert["rule"], alert["outcome"]
        cells = (alert["time"], rule["title"], rule["level"], outcome["action"])
        table.add_row(*map(_cell, cells))
    return table
