# SPDX-License-Identifier: Apache-2.0
"""What `estop rules verify` does and prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from monitor.config import load
from monitor.detection import loader
from monitor.detection.verify import Kind, Verdict, verify
from monitor.errors import RuleError
from monitor.rulebook import variables_of
from monitor.text import terminal


def verified(directories: Sequence[Path], limit_s: float) -> Verdict:
    """The verdict on these rules, or on those of the daemon. `RuleError` if they cannot be read."""
    settings = load()
    reading = loader.read(directories or settings.rules, variables_of(settings))
    if reading.problems:
        raise RuleError(reading.problems)
    return verify(reading, _progress if sys.stderr.isatty() else _quiet, limit_s=limit_s)


def show_verdict(verdict: Verdict) -> None:
    """One line for each finding and for each open question, and the sum."""
    for finding in verdict.findings:
        click.echo(terminal(str(finding)))
    for question in verdict.undecided:
        click.echo(terminal(f"could not be decided: {question}"))
    counts = [(kind, sum(one.kind is kind for one in verdict.findings)) for kind in Kind]
    said = ", ".join(f"{count} {kind}" for kind, count in counts)
    click.echo(f"{verdict.rules} rules: {said}, {len(verdict.undecided)} questions undecided")


def _progress(done: int, rules: int) -> None:
    click.echo(f"\r{done} of {rules} rules{'' if done < rules else chr(10)}", err=True, nl=False)


def _quiet(_done: int, _rules: int) -> None:
    """Nobody looks on."""
