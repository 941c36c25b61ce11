# SPDX-License-Identifier: Apache-2.0
"""Recordings through the rules: what each would have raised, and when. Needs no root and no daemon."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from monitor.alerts import Level, Response, Rule
from monitor.cli import show
from monitor.config import load
from monitor.detection.engine import Engine
from monitor.fields import Fact
from monitor.recording.lines import Header, read
from monitor.rulebook import read_rules, variables_of

_SHOWN = 3
"""Matches of one rule that are told one by one."""


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """One rule matched one event, `at_s` seconds after the recording's first."""

    at_s: float
    rule: str
    title: str
    level: Level
    response: Response
    author: str
    category: str
    fields: dict[str, Any]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recording. `seconds` is how long it lasted, not how long this took."""

    file: str
    recording: Header
    events: int
    facts: int
    seconds: float
    facts_per_s: float
    matches: tuple[Match, ...]

    def at_least(self, response: Response) -> list[Match]:
        """Matches whose response is this strong or stronger."""
        return [match for match in self.matches if match.response.rank >= response.rank]


def engine_of(directories: Sequence[Path], given: Sequence[str] = ()) -> Engine:
    """The rules of these directories, or else those that the daemon would load.

    `given` are values of variables, `NAME=VALUE` each, in place of this host's.
    """
    settings = load()
    variables = variables_of(settings)
    variables |= {name: [] for name, _, _ in (one.partition("=") for one in given)}
    for name, _, value in (one.partition("=") for one in given):
        variables[name].append(value)
    return Engine(read_rules(settings, directories, variables))


def replay(file: Path, engine: Engine) -> Report:
    """One recording through the rules."""
    header, happenings = read(file)
    matches: list[Match] = []
    events = facts = begin_ns = end_ns = 0
    spent_ns = 0
    engine.forget()
    for happening in happenings:
        begin_ns, end_ns = begin_ns or happening.ktime_ns, happening.ktime_ns
        events += 1
        facts += len(happening.facts)
        start_ns = time.perf_counter_ns()
        found = engine.correlate(happening.ktime_ns, engine.matches(happening.facts))
        spent_ns += time.perf_counter_ns() - start_ns
        at_s = (happening.ktime_ns - begin_ns) / 1e9
        matches += [_match(at_s, rule, fact) for rule, fact in found.values()]
    return Report(
        file=str(file),
        recording=header,
        events=events,
        facts=facts,
        seconds=(end_ns - begin_ns) / 1e9,
        facts_per_s=round(facts / (spent_ns / 1e9)) if spent_ns else 0,
        matches=tuple(matches),
    )


def _match(at_s: float, rule: Rule, fact: Fact) -> Match:
    return Match(
        at_s=round(at_s, 6),
        rule=rule.id,
        title=rule.title,
        level=rule.level,
        response=rule.response,
        author=rule.author,
        category=fact.category,
        fields=fact.fields,
    )


def show_report(report: Report) -> None:
    """For people: the strongest first, each rule with its first matches."""
    click.echo(
        f"{report.file}: {report.facts} facts of {report.events} events in {report.seconds:.1f} s, "
        f"{len(report.matches)} matches"
    )
    by_rule: dict[str, list[Match]] = {}
    for match in report.matches:
        by_rule.setdefault(match.rule, []).append(match)
    console = show.console()
    for found in sorted(by_rule.values(), key=lambda some: -some[0].response.rank):
        for match in found[:_SHOWN]:
            console.print(
                show.plain(
                    f"  +{match.at_s:.3f} s  {match.response}  {match.title}: "
                    f"{show.subject(match.fields)}"
                ),
                soft_wrap=True,
            )
        if len(found) > _SHOWN:
            console.print(show.plain(f"  and {len(found) - _SHOWN} more of {found[0].title}"))
