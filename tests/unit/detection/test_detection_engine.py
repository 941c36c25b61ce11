# SPDX-License-Identifier: Apache-2.0
"""The engine: all rules that match, in order, whatever one of them does."""

import pytest
from ruletext import detecting, loaded

from monitor.detection.engine import Engine
from monitor.detection.ruleset import RuleSet
from monitor.fields import Fact

HOSTS = Fact(category="file_event", fields={"TargetFilename": "/etc/hosts"})


def numbered(number, response, entries=None, **changes):
    identifier = f"00000000-0000-4000-8000-{number:012}"
    entries = entries or {"TargetFilename": "/etc/hosts"}
    return detecting(entries, id=identifier, title=f"rule {number}", response=response, **changes)


def titles(engine, fact=HOSTS):
    return [rule.title for rule in engine.evaluate(fact)]


def test_all_matching_rules_fire_and_the_strongest_comes_first(tmp_path):
    responses = ["log", "freeze", "alert", "kill", "freeze"]
    rules = [numbered(number, response) for number, response in enumerate(responses)]
    engine = Engine(loaded(tmp_path, *rules))
    assert titles(engine) == ["rule 3", "rule 1", "rule 4", "rule 2", "rule 0"]


def test_only_rules_of_the_category_are_asked(tmp_path):
    engine = Engine(loaded(tmp_path, numbered(1, "log")))
    assert titles(engine, Fact(category="file_access", fields=HOSTS.fields)) == []


def test_an_empty_rule_set_matches_nothing():
    assert titles(Engine(RuleSet())) == []


def test_replacing_the_rules_replaces_them_all(tmp_path):
    engine = Engine(loaded(tmp_path, numbered(1, "log"), numbered(2, "log")))
    engine.replace(loaded(tmp_path, numbered(3, "log")))
    assert titles(engine) == ["rule 3"]
    assert [rule.title for rule in engine.ruleset.rules] == ["rule 3"]


class Spoilt(int):
    """A number that no comparison survives."""

    def __gt__(self, other):
        raise RuntimeError


@pytest.mark.parametrize("spoil", [lambda n: n, lambda n: [n]], ids=["value", "list"])
def test_a_rule_that_raises_is_counted_and_loses_no_other(tmp_path, spoil):
    engine = Engine(
        loaded(
            tmp_path,
            numbered(1, "kill", {"Inode|gt": 5}),
            numbered(2, "log"),
            numbered(3, "freeze", {"Inode": 7}),
        )
    )
    fact = Fact(category="file_event", fields={**HOSTS.fields, "Inode": spoil(Spoilt(7))})
    assert titles(engine, fact) == ["rule 3", "rule 2"]
    assert titles(engine, fact) == ["rule 3", "rule 2"]
    assert engine.errors == {"00000000-0000-4000-8000-000000000001": 2}


def test_each_rule_matches_an_event_once_and_keeps_the_first_of_its_facts(tmp_path):
    engine = Engine(loaded(tmp_path, numbered(1, "log"), numbered(2, "log", {"Inode": 7})))
    other = Fact(category="file_event", fields={**HOSTS.fields, "Inode": 7})
    later = Fact(category="file_event", fields={**HOSTS.fields, "Inode": 8})
    found = engine.matches([HOSTS, other, later])
    assert [(rule.title, fact) for rule, fact in found.values()] == [
        ("rule 1", HOSTS),
        ("rule 2", other),
    ]
