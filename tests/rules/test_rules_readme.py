# SPDX-License-Identifier: Apache-2.0
"""`rules/README.md` says what the code does: its tables are made from the same ones."""

from pathlib import Path

import pytest
import yaml

from monitor.alerts import Response
from monitor.detection.sigma import MODIFIERS
from monitor.detection.strict import KEYS
from monitor.detection.variables import KNOWN
from monitor.fields import CATEGORIES

README = Path(__file__).parents[2] / "rules" / "README.md"


def category_tables() -> str:
    """Fields that every category has come first, then each category with its own."""
    common = set.intersection(*(set(fields) for fields in CATEGORIES.values()))
    first = next(iter(CATEGORIES.values()))
    parts = [table("Every category", {f: first[f] for f in first if f in common})]
    for name, fields in CATEGORIES.items():
        own = {field: text for field, text in fields.items() if field not in common}
        parts.append(table(f"`{name}`", own))
    return "\n".join(parts)


def table(title: str, fields: dict[str, str]) -> str:
    rows = "".join(f"| `{field}` | {text} |\n" for field, text in fields.items())
    return f"### {title}\n\n| field | holds |\n|---|---|\n{rows}"


def modifier_list() -> str:
    return ", ".join(f"`{modifier}`" for modifier in MODIFIERS) + "."


def variable_table() -> str:
    rows = "".join(f"| `%{name}%` | {text} |\n" for name, text in KNOWN.items())
    return f"| variable | values |\n|---|---|\n{rows}"


@pytest.mark.parametrize("part", [category_tables, modifier_list, variable_table])
def test_the_readme_lists_what_the_code_knows(part):
    assert part() in README.read_text()


def test_every_response_is_explained():
    assert all(f"| `{response}` |" in README.read_text() for response in Response)


def test_the_example_is_a_rule_with_known_keys():
    example = README.read_text().split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(example).keys() <= set(KEYS)
