# SPDX-License-Identifier: Apache-2.0
"""Rules for tests: one sound rule as a mapping, and ways to change, write and load it."""

from pathlib import Path
from typing import Any

import yaml

from monitor.detection.loader import NO_VARIABLES, load
from monitor.detection.ruleset import RuleSet

ID = "3f0b5b2e-6f0a-4f57-9d39-0d6a2f0e7c01"


def rule(category: str = "file_event", **changes: Any) -> dict[str, Any]:
    """A sound rule; a change of None leaves the key out."""
    sound = {
        "title": "A rule",
        "id": ID,
        "logsource": {"product": "linux", "category": category},
        "detection": {"selection": {"TargetFilename": "/etc/hosts"}, "condition": "selection"},
        "level": "high",
    }
    return {key: value for key, value in {**sound, **changes}.items() if value is not None}


def detecting(entries: object, category: str = "file_event", **changes: Any) -> dict[str, Any]:
    """A rule with one selection."""
    detection = {"selection": entries, "condition": "selection"}
    return rule(category, detection=detection, **changes)


def written(directory: Path, *rules: dict[str, Any], name: str = "rule.yml") -> Path:
    file = directory / name
    file.write_text(yaml.safe_dump_all(rules, sort_keys=False, allow_unicode=True))
    return file


def loaded(directory: Path, *rules: dict[str, Any], variables=NO_VARIABLES) -> RuleSet:
    return load([written(directory, *rules)], variables=variables)
