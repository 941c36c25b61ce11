# SPDX-License-Identifier: Apache-2.0
"""What `detection/cases.py` takes as known of a fact is what `sessions/facts.py` puts into it."""

from __future__ import annotations

import pytest
from happenings import every

from monitor import events
from monitor.capture import syscalls, wire
from monitor.capture.kernel import OPERATIONS
from monitor.capture.syscalls import Handler
from monitor.detection.cases import CASES, Case, Kind
from monitor.fields import CATEGORIES, Fact

PATHS = {"TargetFilename", "SourceFilename", "Image"}


def case_of(fact: Fact) -> list[Case]:
    """The cases whose distinguishing field has this fact's value."""
    operation = fact.fields.get("Operation")
    return [c for c in CASES[fact.category] if c.known.get("Operation", operation) == operation]


def is_of(fact: Fact, case: Case) -> bool:
    return all(fact.fields.get(field) == value for field, value in case.known.items())


def test_every_category_has_cases():
    assert CASES.keys() == CATEGORIES.keys()


@pytest.mark.parametrize("kind", events.KINDS, ids=lambda kind: kind.__name__)
def test_every_fact_is_of_a_case_that_knows_only_what_is_true(facts, kind):
    for fact in facts[kind]:
        possible = case_of(fact)
        if fact.category == "network_connection":
            assert any(is_of(fact, case) for case in possible), fact
        else:
            (case,) = possible
            assert is_of(fact, case), (case.name, fact)


def test_every_case_comes_from_some_event(facts):
    for category, cases in CASES.items():
        made = [fact for fact in every(facts) if fact.category == category]
        for case in cases:
            assert any(is_of(fact, case) for fact in made), (category, case.name)


def test_operations_that_are_said_to_be_held_are_told_at_the_return_of_their_call():
    told = {shape.event for shape in syscalls.SHAPES if shape.handler is Handler.PRIVILEGED}
    held = {case.name for cases in CASES.values() for case in cases if case.kind is Kind.OPERATION}
    names = {operation.name.lower(): operation for operation in wire.Operation}
    names |= {name: names[own] for name, own in OPERATIONS.items()}
    # A signal that was let through is `on_signal`'s to tell.
    assert {names[name] for name in held} == told - {wire.Operation.KILL}


def test_cases_name_fields_of_their_category():
    for category, cases in CASES.items():
        for case in cases:
            assert {*case.known, *case.acts} <= CATEGORIES[category].keys()
            assert case.acts.keys() <= PATHS
            assert bool(case.why) == (case.kind is Kind.NOTHING)
