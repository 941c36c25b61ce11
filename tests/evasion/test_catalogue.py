# SPDX-License-Identifier: Apache-2.0
"""The catalogue is complete, and the page says what the table says."""

from __future__ import annotations

import pytest
from catalogue import IDS, NOT_IMPLEMENTED, TECHNIQUES
from table import NOT_HERE, PAGE, TIERS
from technique import Outcome


def test_every_family_has_a_technique_or_a_reason_why_not():
    tried = {technique.family for technique in TECHNIQUES.values()}
    assert tried | set(NOT_IMPLEMENTED) == set(IDS)
    assert not tried & set(NOT_IMPLEMENTED)


def test_the_page_says_what_the_table_says(table):
    assert PAGE.read_text() == table.page(), "write it anew with `make evasion`"


def test_the_table_has_no_line_of_a_technique_that_is_gone(table):
    assert set(table.expected) <= set(TECHNIQUES)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_what_is_not_stopped_stands_there_with_the_reason(table, name):
    outcomes = {table.outcome(TECHNIQUES[name], tier) for tier in TIERS}
    if outcomes & {Outcome.MISSED, Outcome.DETECTED}:
        assert TECHNIQUES[name].gap
    assert table.expected.get(name), f"nobody has tried {name}"
    for outcome in table.expected[name].values():
        assert outcome.startswith(NOT_HERE) or Outcome(outcome)
