# SPDX-License-Identifier: Apache-2.0
"""Prints docs/settings.md from the settings themselves: name, what else it may be, default, words."""

from __future__ import annotations

import sys
from enum import EnumType

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from monitor.config import DEFAULT_CONFIG, Settings

_HEAD = f"""\
# Settings

The command line comes first, then the environment (`ESTOP_` and the name in capitals), then the TOML
file (`{DEFAULT_CONFIG}`, or the one `--config` names), then these defaults. What is not known, and what
is of no use, is an error at the start, all of it at once. Made by `make docs`.

| name | default | what it is |
|---|---|---|
"""


def page() -> str:
    """The whole page; `config` is left out, since the file cannot name itself."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items() if name != "config"]
    return _HEAD + "\n".join(rows) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    words = " ".join((field.description or "").split()).replace("|", "\\|")
    bounds = _bounds(field)
    return f"| `{name}` | {_default(name, field)} | {words}{f' ({bounds})' if bounds else ''} |"


def _default(name: str, field: FieldInfo) -> str:
    if name == "rules":  # where they are depends on how estop was installed
        return "those that come with estop"
    value = field.default
    if value is None or value in ((), "", PydanticUndefined):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _bounds(field: FieldInfo) -> str:
    if isinstance(field.annotation, EnumType):
        return " or ".join(f"`{member}`" for member in field.annotation)
    said = {"ge": "at least {}", "le": "at most {}", "gt": "above {}"}
    return ", ".join(
        said[sign].format(getattr(bound, sign))
        for bound in field.metadata
        for sign in said
        if hasattr(bound, sign)
    )


if __name__ == "__main__":
    sys.stdout.write(page())
