# SPDX-License-Identifier: Apache-2.0
"""Rule files to a rule set, all or nothing; it must not change a running one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from monitor.alerts import Level, Response, Rule
from monitor.detection import blame, sigma, source, strict
from monitor.detection.ruleset import InactiveRule, RuleSet, Signature
from monitor.detection.source import Document
from monitor.detection.variables import expand, mentioned
from monitor.errors import RuleError, RuleProblem

Variables = Mapping[str, Sequence[str]]

NO_VARIABLES: Final[Variables] = MappingProxyType({})


@dataclass(slots=True)
class Reading:
    """What the files gave so far: sound signatures, and everything that is wrong."""

    signatures: list[Signature] = field(default_factory=list)
    inactive: list[InactiveRule] = field(default_factory=list)
    problems: list[RuleProblem] = field(default_factory=list)
    digest: str = ""


def load(paths: Sequence[Path], *, variables: Variables = NO_VARIABLES) -> RuleSet:
    """The rules of these files and directories, or a `RuleError` with every problem there is.

    `variables` gives the values of `%name%` under `|expand`. A rule that needs a known variable
    without a value here is not an error: it is listed in `inactive`, with the reason.
    """
    reading = read(paths, variables)
    if reading.problems:
        raise RuleError(reading.problems)
    return RuleSet(tuple(reading.signatures), tuple(reading.inactive), reading.digest)


def read(paths: Sequence[Path], variables: Variables) -> Reading:
    """The same without raising: the sound rules beside the problems of the others."""
    reading = Reading()
    files, reading.problems = source.discover(paths)
    digest = hashlib.sha256()
    first: dict[str, str] = {}
    for file in files:
        content = source.read(file)
        digest.update(b"%d\n" % len(content.content) + content.content)
        reading.problems += content.problems
        for document in content.documents:
            _add(reading, document, variables, first)
    reading.digest = digest.hexdigest()
    if not files and not reading.problems:
        where = ", ".join(map(str, paths)) or "no path"
        reading.problems.append(RuleProblem(where, 0, "holds no rule file", "*.yml or *.yaml"))
    return reading


def _add(reading: Reading, document: Document, given: Variables, first: dict[str, str]) -> None:
    """One rule; `first` remembers where each id was first seen."""
    problems = list(strict.check(document, given))
    identifier = str(document.data.get("id", "")).lower()
    place = f"{document.file}:{document.line('id')}"
    if identifier and first.setdefault(identifier, place) != place:
        message = f"the id `{identifier}` belongs to the rule at {first[identifier]}"
        problems.append(document.problem(message, "id", mend="give one of them its own"))
    missing = sorted(n for n in mentioned(document.data.get("detection")) if not given.get(n))
    if not problems and not missing:
        problems = _compile(reading, document, given)
    elif not problems:
        reason = " and ".join(f"%{name}%" for name in missing) + " has no value on this host"
        reading.inactive.append(InactiveRule(_rule(document), reason))
    reading.problems += problems


def _compile(reading: Reading, document: Document, given: Variables) -> list[RuleProblem]:
    detection = expand(document.data["detection"], given)
    parsed = sigma.parse({**document.data, "detection": detection})
    if parsed.errors:
        return blame.problems(document, parsed.errors, given)
    unused = [
        document.problem(f"`{name}` is not used by the condition", "detection", name)
        for name in sigma.unused(parsed)
    ]
    try:
        condition = sigma.condition(parsed)
    except sigma.NotCompilableError as error:
        return blame.problems(document, [error], given)
    if not unused:
        line = document.line("response")
        reading.signatures.append(Signature(_rule(document), condition, line))
    return unused


def _rule(document: Document) -> Rule:
    data = document.data
    level = Level(data["level"])
    default = Response.LOG if level is Level.INFORMATIONAL else Response.ALERT
    return Rule(
        id=str(data["id"]).lower(),
        title=data["title"],
        level=level,
        response=Response(data.get("response", default)),
        category=data["logsource"]["category"],
        name=str(data.get("name") or ""),
        author=str(data.get("author") or ""),
        description=str(data.get("description") or "").strip(),
        tags=tuple(data.get("tags") or ()),
        falsepositives=tuple(map(str, data.get("falsepositives") or ())),
        file=document.file,
    )
