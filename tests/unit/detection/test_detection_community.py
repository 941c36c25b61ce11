# SPDX-License-Identifier: Apache-2.0
"""Community rules load as they are: what is not seen here is counted, what cannot fire is listed."""

import os
import re
from pathlib import Path

import pytest
from ruletext import ID, correlation, detecting, loaded, numbered_id, rule, written

from monitor.alerts import Level, Response
from monitor.detection.check import check
from monitor.detection.engine import Engine
from monitor.detection.loader import load
from monitor.errors import RuleError
from monitor.fields import Fact


def community(entries=None, category="process_creation", **changes):
    """A rule in the style of those that people share."""
    given = {
        "author": "Ann Example",
        "status": "test",
        "date": "2026-01-31",
        "references": ["https://example.org/a"],
        "tags": ["attack.execution", "cve.2026-1"],
        "response": None,
        **changes,
    }
    if "detection" in given:
        return rule(category, **given)
    return detecting(entries or {"Image|endswith": "/tool"}, category, **given)


def off(directory, *rules):
    ruleset = loaded(directory, *rules)
    assert ruleset.rules == ()
    return [one.reason for one in ruleset.inactive]


def test_a_community_rule_alerts_and_keeps_its_author_and_id(tmp_path):
    [found] = loaded(tmp_path, community()).rules
    assert (found.id, found.author, found.response) == (ID, "Ann Example", Response.ALERT)


def test_what_sigma_allows_and_we_do_not_use_is_no_fault(tmp_path):
    more = {"simulation": [{"type": "atomic"}], "level": None, "tags": ["loose"], "date": "soon"}
    unused = {"selection": {"Image": "/a"}, "spare": {"Image": "/b"}, "condition": "selection"}
    [found] = loaded(tmp_path, community(**more, detection=unused)).rules
    assert found.level is Level.MEDIUM


@pytest.mark.parametrize("key", ["respnse", "Response", "responses", "reponse"])
def test_what_could_be_meant_as_a_response_is_an_error(tmp_path, key):
    with pytest.raises(RuleError, match=f"unknown key `{key}`"):
        loaded(tmp_path, {**community(), key: "kill"})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"logsource": {"product": "windows", "category": "file_event"}}, "product windows"),
        ({"logsource": {"category": "proxy"}}, "product not named"),
        ({"logsource": {"product": "linux", "service": "auditd"}}, "service auditd"),
        ({"logsource": {"product": "linux", "category": "antivirus"}}, "category antivirus"),
        ({"logsource": {"product": "linux"}}, "category not named"),
        ({"status": "deprecated"}, "status deprecated"),
        ({"status": "unsupported"}, "status unsupported"),
        ({"id": None}, "no id"),
        ({"logsource": None, "detection": None, "order": 20}, "no rule"),
    ],
)
def test_what_is_not_about_this_host_is_counted_and_no_error(tmp_path, changes, reason):
    report = check([written(tmp_path, community(**changes), rule(id=numbered_id(2)))])
    assert report.ok
    assert report.passed_over == {reason: 1}
    assert len(report.rules) == 1
    assert report.inactive == ()


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"Company": "0", "Image": "/x"}, "it needs `Company`, not filled here"),
        ({"Hashes|contains": "x"}, "it needs `Hashes`, not filled here"),
        ({"Image|re": "(?=x)"}, "`(?=x)` is no RE2 expression"),
        ("word", "a value without a field cannot be looked for in an event"),
        ({"Image|expand": "%tools%"}, "unknown variable `%tools%`"),
        ({"Image|frobnicate": "x"}, "unknown modifier `frobnicate`"),
    ],
)
def test_what_cannot_fire_here_is_listed_with_the_reason(tmp_path, entries, reason):
    [found] = off(tmp_path, community(entries))
    assert found.startswith(reason)


def test_a_slip_in_the_category_is_listed_by_name(tmp_path):
    [found] = off(tmp_path, community(category="process_creatoin"))
    assert found == (
        "unknown logsource category `process_creatoin` (did you mean `process_creation`?)"
    )


def test_a_field_that_is_not_filled_is_null_where_the_rule_can_do_without(tmp_path):
    detection = {
        "selection": {"Image": "/a"},
        "renamed": {"OriginalFileName": "a"},
        "filter": {"IntegrityLevel": "System"},
        "condition": "(selection or renamed) and not filter",
    }
    engine = Engine(loaded(tmp_path, community(detection=detection)))
    for image, fires in (("/a", 1), ("/b", 0)):
        fact = Fact(category="process_creation", fields={"Image": image})
        assert len(engine.evaluate(fact)) == fires


def test_the_same_faults_in_a_rule_with_a_response_are_errors(tmp_path):
    for entries in ({"Company": "0"}, {"Image|re": "(?=x)"}, "word"):
        with pytest.raises(RuleError):
            loaded(tmp_path, community(entries, response="alert"))


@pytest.mark.parametrize("turned", [False, True])
def test_a_copy_with_a_response_counts_and_what_it_is_a_copy_of_is_off(tmp_path, turned):
    copy = community(title="copy", response="freeze")
    ruleset = loaded(tmp_path, *((copy, community()) if turned else (community(), copy)))
    assert [(one.title, one.response) for one in ruleset.rules] == [("copy", Response.FREEZE)]
    [off] = ruleset.inactive
    assert off.reason.startswith(f"the id `{ID}` belongs to the rule at")


def test_of_two_community_rules_with_one_id_the_first_counts(tmp_path):
    ruleset = loaded(tmp_path, community(title="first"), community(title="second"))
    assert [one.title for one in ruleset.rules] == ["first"]
    assert [one.rule.title for one in ruleset.inactive] == ["second"]


def test_what_is_passed_over_takes_no_id_from_anybody(tmp_path):
    assert len(loaded(tmp_path, community(status="deprecated"), community()).rules) == 1


def test_a_community_correlation_with_the_id_of_a_rule_is_off(tmp_path):
    given = {"type": "event_count", "rules": [ID], "timespan": "1m", "condition": {"gte": 2}}
    ruleset = loaded(tmp_path, rule(), correlation(given, response=None, id=ID))
    assert [one.id for one in ruleset.rules] == [ID]
    assert [one.rule.category for one in ruleset.inactive] == ["correlation"]


def test_a_community_correlation_of_what_is_passed_over_is_off(tmp_path):
    given = {"type": "event_count", "rules": ["x"], "timespan": "1m", "condition": {"gte": 2}}
    away = community(name="x", id=numbered_id(2), logsource={"product": "windows"})
    [found] = off(tmp_path, away, correlation(given, response=None))
    assert found.startswith("no rule has the id or name `x`")


CHECKOUT = os.environ.get("SIGMAHQ", "")


@pytest.mark.skipif(not CHECKOUT, reason="SIGMAHQ names no checkout of SigmaHQ/sigma")
def test_a_checkout_of_the_community_loads_unmodified():
    ruleset = load([Path(CHECKOUT)], variables={"home": ["/root"]})
    assert ruleset.rules
    assert {rule.response for rule in ruleset.rules} <= {Response.LOG, Response.ALERT}
    for one in ruleset.inactive:  # its unpublished drafts are among them, where it has any
        assert re.search("not filled here|belongs to the rule", one.reason), (one.rule.file, one)
