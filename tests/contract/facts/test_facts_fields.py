# SPDX-License-Identifier: Apache-2.0
"""What rules are told exists (`monitor/fields.py`) is what they get, for every kind of event."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from happenings import every

from monitor import events
from monitor.events import Event
from monitor.fields import CATEGORIES, Fact

README = Path(__file__).parents[3] / "rules" / "README.md"
SILENT = {events.Forked}  # no rule speaks of a fork: what the child does comes by itself
# The file is gone when somebody looks: that it has no inode and no content is all there is to say.
NEVER = {("file_delete", field) for field in ("Device", "Inode", "WrittenBySession", "SelfCopy")}
NEVER |= {("dns_query", "DestinationHostname")}  # who is asked has an address only


@pytest.mark.parametrize("kind", events.KINDS, ids=lambda kind: kind.__name__)
def test_an_event_becomes_facts_of_known_categories_with_known_fields(facts, kind):
    assert bool(facts[kind]) == (kind not in SILENT)
    for fact in facts[kind]:
        assert fact.category in CATEGORIES
        assert fact.fields.keys() <= CATEGORIES[fact.category].keys(), fact.category


def test_every_category_comes_from_some_event(facts):
    assert {fact.category for fact in every(facts)} == CATEGORIES.keys()


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_field_of_a_category_is_filled_by_some_event(facts, category):
    fields = [fact.fields for fact in every(facts) if fact.category == category]
    filled = {name for known in fields for name, value in known.items() if says_something(value)}
    never = {name for where, name in NEVER if where == category}
    assert filled == CATEGORIES[category].keys() - never


def says_something(value: object) -> bool:
    return bool(value) and value != "0:0"


def operations(facts: dict[type[Event], list[Fact]], category: str) -> set[str]:
    return {fact.fields["Operation"] for fact in every(facts) if fact.category == category}


@pytest.mark.parametrize("category", ["file_event", "process_access"])
def test_the_operations_that_the_table_names_are_those_that_come(facts, category):
    named = set(re.findall(r"`(\w+)`", CATEGORIES[category]["Operation"]))
    assert operations(facts, category) == named


def test_the_privileged_operations_that_the_readme_names_are_those_that_come(facts):
    table = README.read_text().partition("### Privileged operations\n")[2].partition("\n## ")[0]
    named = {row.split("|")[1].strip(" `") for row in table.splitlines() if row.startswith("| `")}
    assert operations(facts, "privileged_operation") == named
