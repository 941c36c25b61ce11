# SPDX-License-Identifier: Apache-2.0
"""Rules are exchanged whole or not at all, the kernel's part before ours, and it is said how they differ."""

from __future__ import annotations

import pytest
from ruletext import detecting, loaded, numbered_id
from structlog.testing import capture_logs

from monitor.detection.enforcement import USUAL_HOST
from monitor.detection.engine import Engine
from monitor.detection.lower import lower
from monitor.detection.ruleset import RuleSet
from monitor.errors import RuleError
from monitor.fields import Fact
from monitor.rulebook import Rulebook


def hosts(number, path="/etc/hosts", **changes):
    identifier = numbered_id(number)
    entries = {"TargetFilename|cased": path}
    return detecting(entries, id=identifier, name=f"r{number}", title=f"R{number}", **changes)


class Desk:
    """A rulebook over rules that the test gives, and what it tells whom, in order."""

    def __init__(self, directory, *rules):
        self._directory = directory
        self.next = rules
        self.told = []
        ruleset = self._load()
        self.engine = Engine(ruleset)
        self.book = Rulebook(
            ruleset,
            lower(ruleset),
            USUAL_HOST,
            load=self._load,
            engine=self.engine,
            followers=[self],
            watch=lambda ruleset: self.told.append(("watch", len(ruleset.rules))),
            done=lambda changed: self.told.append(("done", sorted(changed))),
        )

    def _load(self) -> RuleSet:
        return loaded(self._directory, *self.next)

    def replace(self, lowered):
        """As the kernel's part follows: nothing of ours is exchanged yet."""
        self.told.append(("kernel", sorted(lowered.rules), self.matching("/etc/hosts")))

    def matching(self, path):
        fact = Fact(category="file_event", fields={"TargetFilename": path, "Operation": "open"})
        return [rule.title for rule in self.engine.evaluate(fact)]

    @property
    def in_force(self):
        return {rule.title for rule in self.book.in_force()}


def test_what_is_new_gone_and_different_is_told_and_everybody_follows(tmp_path):
    desk = Desk(tmp_path, hosts(1), hosts(2), hosts(3, response="freeze"))
    desk.next = (hosts(2), hosts(3, response="kill"), hosts(4, response="freeze"))
    changes = desk.book.reload()
    assert (changes.rules, changes.added, changes.removed, changes.changed) == (
        3,
        (f"R4 ({numbered_id(4)})",),
        (f"R1 ({numbered_id(1)})",),
        (f"R3 ({numbered_id(3)})",),
    )
    touched = [numbered_id(n) for n in (1, 3, 4)]
    (first, known, before), *rest = desk.told
    assert first == "kernel"
    assert {numbered_id(3), numbered_id(4)} <= set(known)
    assert set(before) == {"R1", "R2", "R3"}
    assert rest == [("watch", 3), ("done", touched)]
    assert set(desk.matching("/etc/hosts")) == desk.in_force == {"R2", "R3", "R4"}


def test_the_same_rules_again_are_no_difference(tmp_path):
    desk = Desk(tmp_path, hosts(1), hosts(2))
    desk.next = (hosts(2), hosts(1))
    changes = desk.book.reload()
    assert (changes.added, changes.removed, changes.changed) == ((), (), ())


@pytest.mark.parametrize(
    "bad",
    [
        detecting({"Nothing": 1}, id=numbered_id(9)),
        # This host cannot refuse a deletion.
        detecting(
            {"TargetFilename|cased": "/a"}, "file_delete", id=numbered_id(9), response="deny"
        ),
    ],
    ids=["unsound", "unenforceable"],
)
def test_of_a_set_with_one_bad_rule_nothing_is_taken_and_nobody_hears(tmp_path, bad):
    desk = Desk(tmp_path, hosts(1))
    desk.next = (hosts(2), bad)
    with pytest.raises(RuleError):
        desk.book.reload()
    assert desk.told == []
    assert desk.matching("/etc/hosts") == ["R1"]
    assert desk.in_force == {"R1"}
    desk.next = (hosts(1), hosts(2))
    assert len(desk.book.reload().added) == 1


def test_rules_of_which_none_stops_anybody_are_warned_of(tmp_path):
    """As a checkout of community rules alone is, which takes the place of estop's own."""
    with capture_logs() as said:
        desk = Desk(tmp_path, hosts(1, response="alert"), hosts(2, response="deny"))
        assert said == []
        desk.next = (hosts(1, response="alert"),)
        desk.book.reload()
    [warning] = [line for line in said if line["log_level"] == "warning"]
    assert (warning["event"], warning["rules"]) == ("rules.nothing_is_stopped", 1)
