# SPDX-License-Identifier: Apache-2.0
"""Rules against facts that they must and must not match: files of their own, one for each rule.

match:
- category: file_event
fields: {TargetFilename: /etc/hosts, Operation: open}
no_match: [...]

A correlation is tried with lists of facts, in order:

match_sequence:
- - {at_s: 0, category: file_access, fields: {TargetFilename: /etc/shadow}}
  - {at_s: 5, times: 20, every_s: 0.1, category: file_delete, fields: {TargetFilename: "/home/{n}"}}
no_match_sequence: [...]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from monitor.alerts import Rule
from monitor.detection.engine import Engine
from monitor.errors import RuleError, RuleProblem
from monitor.fields import CATEGORIES, Fact
from monitor.text import printable

KEYS = ("match", "no_match")
SEQUENCE_KEYS = ("match_sequence", "no_match_sequence")


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fact and its second; with `times`, as many of them, `{n}` in their texts is the number."""

    at_s: float
    category: str
    fields: dict[str, Any]
    times: int = 1
    every_s: float = 0.0

    def facts(self) -> Iterator[tuple[int, Fact]]:
        """Each with its time in ns."""
        for n in range(self.times):
            fields = {k: _numbered(v, n) for k, v in self.fields.items()}
            at_ns = round((self.at_s + n * self.every_s) * 1e9)
            yield at_ns, Fact(category=self.category, fields=fields)


Sequences = dict[str, list[list[Step]]]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A fact or sequence that a rule should have matched, or should not. `number` counts from 1."""

    file: str
    rule: str
    key: str
    number: int

    def __str__(self) -> str:
        """For people."""
        should = "does not match" if self.key.startswith("match") else "matches"
        return f"{self.file}: {self.rule} {should} number {self.number} under `{self.key}`"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What came of all files. `untried` names rules that no file tries on both sides."""

    facts: int
    failures: tuple[Failure, ...]
    untried: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Did every fact do what it should?"""
        return not self.failures


def run(engine: Engine, paths: Sequence[Path]) -> Trial:
    """Try the rules by the files in these directories, each named after its rule: `NAME.yml`.

    RuleError with every file that cannot be used.
    """
    rules = {rule.name or rule.id: rule for rule in engine.ruleset.rules}
    problems: list[RuleProblem] = []
    failures: list[Failure] = []
    tried: dict[str, set[bool]] = {name: set() for name in rules}
    facts = 0
    for file in _files(paths):
        if file.stem not in rules:
            continue  # a rule that is off here, or facts for something else
        try:
            single, sequences = read(file)
        except ValueError as error:
            problems.append(RuleProblem(str(file), 0, str(error), "see rules/README.md"))
            continue
        rule = rules[file.stem]
        for key, number, found in _tried(engine, rule, single, sequences):
            facts += 1
            wanted = key.startswith("match")
            tried[file.stem].add(wanted)
            if found != wanted:
                failures.append(Failure(file=str(file), rule=file.stem, key=key, number=number))
    if problems:
        raise RuleError(problems)
    untried = tuple(name for name, sides in tried.items() if len(sides) < len(KEYS))
    return Trial(facts=facts, failures=tuple(failures), untried=untried)


def _tried(
    engine: Engine, rule: Rule, single: dict[str, list[Fact]], sequences: Sequences
) -> Iterator[tuple[str, int, bool]]:
    """Key, number, and whether the rule matched."""
    for key, facts in single.items():
        for number, fact in enumerate(facts, 1):
            yield key, number, rule.id in {found.id for found in engine.evaluate(fact)}
    for key, some in sequences.items():
        for number, sequence in enumerate(some, 1):
            yield key, number, rule.id in completed(engine, sequence)


def completed(engine: Engine, sequence: Sequence[Step]) -> set[str]:
    """Ids of the rules and correlations that are told of while these facts happen."""
    engine.forget()
    told: set[str] = set()
    for at_ns, fact in (event for step in sequence for event in step.facts()):
        told |= engine.correlate(at_ns, engine.matches([fact])).keys()
    return told


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(path.rglob("*.yml")) if path.is_dir() else (path,)


def read(file: Path) -> tuple[dict[str, list[Fact]], Sequences]:
    """Single facts and sequences, by key. ValueError says what is wrong with the file."""
    try:
        data = msgspec.convert(yaml.safe_load(file.read_text()), dict[str, Any])
        facts = {key: msgspec.convert(data.get(key) or [], list[Fact]) for key in KEYS}
        steps = {k: msgspec.convert(data.get(k) or [], list[list[Step]]) for k in SEQUENCE_KEYS}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise ValueError(printable(str(error))) from error
    for key, some in facts.items():
        _known(key, some)
    for key, sequences in steps.items():
        for sequence in sequences:
            _known(key, sequence)
    return facts, steps


def _known(key: str, facts: Sequence[Fact | Step]) -> None:
    for number, fact in enumerate(facts, 1):
        unknown = fact.fields.keys() - CATEGORIES.get(fact.category, {}).keys()
        if fact.category not in CATEGORIES or unknown:
            about = ", ".join(sorted(unknown)) or fact.category
            raise ValueError(f"number {number} under `{key}`: there is no {about}")


def _numbered(value: object, number: int) -> object:
    return value.replace("{n}", str(number)) if isinstance(value, str) else value
