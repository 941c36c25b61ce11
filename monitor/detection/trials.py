# SPDX-License-Identifier: Apache-2.0
"""Rules against facts that they must and must not match: files of their own, one for each rule.

match:
- category: file_event
fields: {TargetFilename: /etc/hosts, Operation: open}
no_match: [...]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from monitor.detection.engine import Engine
from monitor.errors import RuleError, RuleProblem
from monitor.fields import CATEGORIES, Fact
from monitor.text import printable

KEYS = ("match", "no_match")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One fact that a rule should have matched, or should not have. `number` counts from 1."""

    file: str
    rule: str
    key: str
    number: int

    def __str__(self) -> str:
        """For people."""
        should = "does not match" if self.key == "match" else "matches"
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
    tried: dict[str, set[str]] = {name: set() for name in rules}
    facts = 0
    for file in _files(paths):
        if file.stem not in rules:
            continue  # a rule that is off here, or facts for something else
        try:
            data = _read(file)
        except ValueError as error:
            problems.append(RuleProblem(str(file), 0, str(error), "see rules/README.md"))
            continue
        for key in KEYS:
            for number, fact in enumerate(data.get(key, ()), 1):
                facts += 1
                tried[file.stem].add(key)
                found = rules[file.stem].id in {rule.id for rule in engine.evaluate(fact)}
                if found != (key == "match"):
                    failure = Failure(file=str(file), rule=file.stem, key=key, number=number)
                    failures.append(failure)
    if problems:
        raise RuleError(problems)
    untried = tuple(name for name, keys in tried.items() if len(keys) < len(KEYS))
    return Trial(facts=facts, failures=tuple(failures), untried=untried)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(path.rglob("*.yml")) if path.is_dir() else (path,)


def _read(file: Path) -> dict[str, list[Fact]]:
    """ValueError says what is wrong with the file."""
    try:
        data = msgspec.convert(yaml.safe_load(file.read_text()), dict[str, Any])
        facts = {key: msgspec.convert(data.get(key) or [], list[Fact]) for key in KEYS}
    except (
        OSError,
        UnicodeDecodeError,
        yaml.YAMLError,
        msgspec.ValidationError,
    ) as error:
        raise ValueError(printable(str(error))) from error
    for key, some in facts.items():
        for number, fact in enumerate(some, 1):
            unknown = fact.fields.keys() - CATEGORIES.get(fact.category, {}).keys()
            if fact.category not in CATEGORIES or unknown:
                about = ", ".join(sorted(unknown)) or fact.category
                raise ValueError(f"number {number} under `{key}`: there is no {about}")
    return facts
