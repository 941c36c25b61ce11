# SPDX-License-Identifier: Apache-2.0
"""Rules for tests: sound ones, ways to change, write and load them, and what is told of a wrong one."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.detection.loader import load
from monitor.detection.reading import NO_VARIABLES
from monitor.detection.ruleset import RuleSet
from monitor.errors import RuleError

ID = "3f0b5b2e-6f0a-4f57-9d39-0d6a2f0e7c01"

HEAD = f"""\
title: A rule
id: {ID}
logsource:
    product: linux
    category: file_event
level: high
"""
DETECTION = "detection:\n    s: {TargetFilename: /etc/hosts}\n    condition: s\n"
SOUND = HEAD + DETECTION + "response: alert\n"


def rule(category: str = "file_event", **changes: Any) -> dict[str, Any]:
    """A sound rule of one's own; a change of None leaves the key out."""
    sound = {
        "title": "A rule",
        "id": ID,
        "logsource": {"product": "linux", "category": category},
        "detection": {"selection": {"TargetFilename": "/etc/hosts"}, "condition": "selection"},
        "level": "high",
        "response": "alert",
    }
    return {key: value for key, value in {**sound, **changes}.items() if value is not None}


def detecting(entries: object, category: str = "file_event", **changes: Any) -> dict[str, Any]:
    """A rule with one selection."""
    detection = {"selection": entries, "condition": "selection"}
    return rule(category, detection=detection, **changes)


def numbered_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def correlation(given: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A correlation; in `given`, too, None leaves a key out."""
    parts = {key: value for key, value in given.items() if value is not None}
    head = {"title": "A correlation", "id": ID, "level": "high", "response": "alert"}
    sound = {**head, "correlation": parts}
    return {key: value for key, value in {**sound, **changes}.items() if value is not None}


def written(directory: Path, *rules: dict[str, Any], name: str = "rule.yml") -> Path:
    file = directory / name
    file.write_text(yaml.safe_dump_all(rules, sort_keys=False, allow_unicode=True))
    return file


def loaded(directory: Path, *rules: dict[str, Any], variables=NO_VARIABLES) -> RuleSet:
    return load([written(directory, *rules)], variables=variables)


def problems(directory, text, **variables):
    file = directory / "rule.yml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(RuleError) as caught:
        load([file], variables=variables)
    assert all(problem.file == str(file) for problem in caught.value.problems)
    return [(p.line, p.message, p.mend) for p in caught.value.problems]


def one_problem(directory, text, **variables):
    [found] = problems(directory, text, **variables)
    return found
