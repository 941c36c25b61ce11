# SPDX-License-Identifier: Apache-2.0
"""The table of the demo says what happened, above all when an act was not stopped."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from agent.report import Act, Result, act_table

ACT = Act("hosts", "edits the hosts file")


def _shown(*results: Result) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(act_table(results))
    return console.file.getvalue()


def _alert(**outcome: Any) -> dict[str, Any]:
    timings = {"frozen": 250_000}
    return {"rule": {"title": "Hosts"}, "outcome": outcome, "timings_ns": timings}


def test_a_stopped_act_shows_its_signature_its_time_and_the_bytes_that_got_out():
    result = Result(ACT, _alert(action="frozen", bytes_out=32), went_on=False)
    assert result.stopped
    row = _shown(result)
    assert all(word in row for word in ("Hosts", "frozen", "0.25 ms", "32"))


def test_an_act_without_an_alert_is_not_called_stopped():
    result = Result(ACT, None, went_on=True)
    assert not result.stopped
    assert "went on" in _shown(result)


def test_an_agent_that_went_on_after_the_alert_is_not_called_stopped():
    result = Result(ACT, _alert(action="frozen", bytes_out=0), went_on=True)
    assert not result.stopped
    assert "the agent went on" in _shown(result)


def test_bytes_that_nobody_counted_are_unknown_and_not_zero():
    result = Result(ACT, _alert(action="frozen", bytes_out=None), went_on=False)
    assert "unknown" in _shown(result)


def test_a_title_cannot_style_the_table():
    alert = {**_alert(action="frozen"), "rule": {"title": "[red]x[/red] \x1b[2J"}}
    row = _shown(Result(ACT, alert, went_on=False))
    assert "[red]x[/red]" in row
    assert "\x1b" not in row
