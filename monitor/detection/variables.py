# SPDX-License-Identifier: Apache-2.0
"""`%name%` in values under `|expand`, replaced before Sigma reads them; no rule knowledge.

pySigma expands after the other modifiers have run, which `cidr` and `re` refuse; text that is
replaced first works with all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import re2

KNOWN = {
    "home": "every home directory of a user who can log in",
    "estop": "directories of the monitor itself: its state, socket, configuration, rules and program, "
    "with a Python environment of its own",
    "estop_secret": "files of the monitor that nobody else may read: its record, the webhooks' secret, "
    "a configuration with passwords",
    "payment_address": "CIDR blocks of payment services, from the settings; none unless given",
}
"""Variables of every host -> what they hold. A rule with one that is empty here is inactive."""

_NAME = re.compile(r"%([A-Za-z_][A-Za-z0-9_]*)%")


def names(value: object) -> set[str]:
    """The variables that a value (or any value of a list) mentions."""
    if isinstance(value, list):
        return {name for one in value for name in names(one)}
    return set(_NAME.findall(value)) if isinstance(value, str) else set()


def expand(detection: object, variables: Mapping[str, Sequence[str]]) -> object:
    """The detection with every variable replaced by its values, and without `|expand`."""
    if isinstance(detection, list):
        return [expand(one, variables) for one in detection]
    if not isinstance(detection, dict):
        return detection
    return dict(entry(key, value, variables) for key, value in detection.items())


def entry(key: str, value: object, variables: Mapping[str, Sequence[str]]) -> tuple[str, object]:
    """One key and value of a detection, expanded."""
    field, *modifiers = key.split("|")
    if "expand" not in modifiers:
        return key, expand(value, variables)
    kept = [modifier for modifier in modifiers if modifier != "expand"]
    values = value if isinstance(value, list) else [value]
    texts = [text for one in values for text in _texts(one, kept, variables)]
    return "|".join([field, *kept]), texts


def mentioned(detection: object) -> set[str]:
    """The variables that a detection needs."""
    if isinstance(detection, list):
        return {name for one in detection for name in mentioned(one)}
    if not isinstance(detection, dict):
        return set()
    needed: set[str] = set()
    for key, value in detection.items():
        needed |= names(value) if "expand" in key.split("|")[1:] else mentioned(value)
    return needed


def _texts(
    value: object, modifiers: Sequence[str], variables: Mapping[str, Sequence[str]]
) -> Iterator[object]:
    if not isinstance(value, str):
        yield value
        return
    pieces = _NAME.split(value)  # text, name, text, name, ..., text
    choices = [
        [_quoted(one, modifiers) for one in variables[piece]] if index % 2 else [piece]
        for index, piece in enumerate(pieces)
    ]
    for choice in product(*choices):
        yield "".join(choice)


def _quoted(value: str, modifiers: Sequence[str]) -> str:
    """A variable's value stands for itself: nothing in it is a wildcard."""
    if "re" in modifiers:
        return str(re2.escape(value))
    return re.sub(r"([\\*?])", r"\\\1", value)
