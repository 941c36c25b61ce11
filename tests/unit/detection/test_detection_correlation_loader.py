# SPDX-License-Identifier: Apache-2.0
"""Correlation documents that are wrong are told so with line and mend; sound ones are put in order."""

from textwrap import dedent

import pytest
from ruletext import ID, correlation, detecting, loaded, numbered_id, rule, written

from monitor.alerts import Response
from monitor.detection.check import check
from monitor.detection.enforcement import USUAL_HOST, of_rules, problems
from monitor.detection.loader import load
from monitor.detection.lower import lower
from monitor.errors import RuleError

ONE, TWO = numbered_id(1), numbered_id(2)
RULES = [
    rule("file_access", id=ONE, name="one"),
    detecting({"DestinationPort": 443}, "network_connection", id=TWO, name="two"),
]
SOUND = f"""\
title: Both
id: {ID}
level: high
response: alert
correlation:
    type: temporal
    rules:
        - one
        - two
    group-by: [Image]
    timespan: 1m
"""
COUNT = f"""\
title: Many
id: {ID}
level: high
response: alert
correlation:
    type: value_count
    rules: [one]
    timespan: 1m
    condition:
        gte: 5
        field: TargetFilename
"""


def told(directory, text, rules=RULES):
    written(directory, *rules, name="a.yml")
    (directory / "b.yml").write_text(text)
    with pytest.raises(RuleError) as caught:
        load([directory])
    assert all(problem.file == str(directory / "b.yml") for problem in caught.value.problems)
    return [(p.line, p.message, p.mend) for p in caught.value.problems]


def test_the_sound_ones_are_sound(tmp_path):
    for text in (SOUND, COUNT):
        written(tmp_path, *RULES, name="a.yml")
        (tmp_path / "b.yml").write_text(text)
        [found] = load([tmp_path]).correlations
        assert found.rule.response is Response.ALERT


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "mend"),
    [
        ("type: temporal", "type: temporl", 6, "unknown type of correlation", "`temporal`?"),
        ("type: temporal", "type: value_avg", 6, "`value_avg` is not evaluated", "did you mean"),
        ("    type: temporal\n", "", 5, "unknown type of correlation `None`", ""),
        ("- two", "- tow", 9, "no rule has the id or name `tow`", "`two`?"),
        ("- two", f"- {ID[:-1]}9", 9, "no rule has the id or name", "loaded with it"),
        ("        - one\n        - two\n", "", 7, "a correlation needs `rules`", ""),
        ("timespan: 1m", "timespan: 1 m", 11, "Timespan '1 m' is invalid", "`10m`"),
        ("timespan: 1m", "timespan: 0s", 11, "must be greater than zero", ""),
        ("    timespan: 1m\n", "", 5, "needs a `timespan`", ""),
        ("group-by", "groupby", 10, "unknown key `groupby`", "`group-by`?"),
        ("[Image]", "[Imge]", 10, "`A rule` has no field `Imge`", "`Image`?"),
        ("[Image]", "[TargetFilename]", 10, "has no field `TargetFilename`", "use `aliases`"),
        ("[Image]", "{a: b}", 10, "`group-by` is a list", ""),
        ("response: alert", "response: deny", 4, "known too late", "use `freeze`"),
        ("response: alert", "response: frezee", 4, "unknown response", "`freeze`?"),
        ("response: alert", "response: alert\nlogsource: {}", 5, "unknown key `logsource`", ""),
        ("response: alert", "response: alert\nstatus: x", 5, "not a valid Sigma rule status", ""),
        ("level: high", "level: hihg", 3, "unknown level", "`high`?"),
        ("1m", "1m\n    condition: one and three", 12, "`three` is not one of its rules", ""),
        ("1m", "1m\n    condition: one", 9, "`two` is not used by the condition", ""),
        ("1m", "1m\n    condition: one and (two", 12, "cannot be read", ""),
        ("1m", "1m\n    condition: not one or two", 12, "holds before anything happens", ""),
        ("1m", "1m\n    condition: one and two and not two", 12, "can never hold", ""),
        ("1m", "1m\n    condition: {gte: 3}", 12, "`3` is no number from 1 to 2", ""),
        ("1m", "1m\n    generate: perhaps", 12, "`generate` is", ""),
        ("1m", "1m\n    aliases: {who: Image}", 12, "`who` needs a field for each rule", ""),
        ("1m", "1m\n    aliases: {who: {six: Image}}", 12, "no rule has the id or name", ""),
    ],
)
def test_a_fault_is_told_with_its_line_and_a_mend(tmp_path, old, new, line, message, mend):
    assert SOUND.count(old) == 1
    found = told(tmp_path, SOUND.replace(old, new))
    assert any(at == line and message in said and mend in advice for at, said, advice in found), (
        found
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "mend"),
    [
        ("gte: 5", "lt: 5", 10, "`lt` is known when the timespan is over", "use `gte`"),
        ("gte: 5", "eq: 5", 10, "`eq` is known when the timespan is over", "use `gte`"),
        ("gte: 5", "gte: 5\n        lte: 9", 11, "`lte` is known when", "use `gte`"),
        ("gte: 5", "gte: 0", 10, "`0` is no number from 1 to 8192", ""),
        ("gte: 5", "gte: 1000000", 10, "is no number from 1 to 8192", ""),
        ("gte: 5", "gte: true", 10, "`True` is no number", ""),
        ("gte: 5", "gte: 2.5", 10, "`2.5` is no number", ""),
        ("        gte: 5\n", "", 9, "one of `gte` and `gt`", ""),
        ("gte: 5", "gtr: 5", 10, "unknown key `gtr`", "did you mean"),
        ("        field: TargetFilename\n", "", 9, "`field` names what `value_count`", ""),
        ("value_count", "event_count", 9, "`field` names what `value_count`", ""),
        ("field: TargetFilename", "field: DestinationIp", 9, "has no field `DestinationIp`", ""),
        ("value_count", "temporal_ordered", 9, "an order is one of all its rules", "leave it out"),
        (
            "\n        gte: 5\n        field: TargetFilename",
            " one",
            9,
            "a `condition` with `gte`",
            "",
        ),
    ],
)
def test_a_fault_of_a_count_is_told_with_its_line_and_a_mend(
    tmp_path, old, new, line, message, mend
):
    assert COUNT.count(old) == 1
    found = told(tmp_path, COUNT.replace(old, new))
    assert any(at == line and message in said and mend in advice for at, said, advice in found), (
        found
    )


def test_an_order_has_no_condition_of_words(tmp_path):
    text = SOUND.replace("temporal", "temporal_ordered") + "    condition: one and two\n"
    assert told(tmp_path, text)[0][:2] == (12, "only `temporal` takes rules in its condition")


def test_a_name_that_two_rules_have_is_no_reference(tmp_path):
    twin = rule(id=numbered_id(3), name="two")
    [(line, message, mend)] = told(tmp_path, SOUND, [*RULES, twin])
    assert (line, mend) == (9, "use an id")
    assert message.startswith("`two` is the name of 2 rules: ")


def test_correlations_in_a_circle_are_refused(tmp_path):
    text = dedent(SOUND)
    first = text.replace("- two", "- second").replace("id: ", "name: first\nid: ")
    other = text.replace("- two", "- first").replace("Both\nid: 3", "Second\nname: second\nid: 4")
    found = told(tmp_path, first + "---\n" + other)
    assert [message for _, message, _ in found] == [
        "it refers to itself, by way of others or not"
    ] * 2


def test_all_problems_come_at_once(tmp_path):
    wrong = SOUND.replace("- two", "- tow").replace("1m", "1x")
    text = wrong.replace("id: 3", "id: 4") + "---\n" + wrong
    assert [line for line, *_ in told(tmp_path, text)] == [9, 11, 21, 23]


def test_the_same_id_twice_is_refused(tmp_path):
    [(line, message, _)] = told(tmp_path, SOUND + "---\n" + SOUND)
    assert line == 14
    assert "belongs to the rule at" in message


def test_a_correlation_of_a_rule_that_is_off_is_off_and_mutes_nothing(tmp_path):
    off = detecting({"Image|expand": "%home%"}, "file_access", id=ONE, name="one", title="First")
    given = {"type": "temporal", "rules": ["one", "two"], "timespan": "1m"}
    ruleset = loaded(tmp_path, off, RULES[1], correlation(given))
    assert [(one.rule.id, one.reason) for one in ruleset.inactive] == [
        (ONE, "%home% has no value on this host"),
        (ID, "`First` cannot fire here"),
    ]
    assert ruleset.muted == set()
    either = correlation({**given, "condition": {"gte": 1}})
    assert loaded(tmp_path, off, RULES[1], either).muted == {ONE, TWO}


def test_those_that_refer_to_others_come_after_them(tmp_path):
    given = {"type": "temporal", "rules": ["two", "low"], "timespan": "1m"}
    top = correlation(given, name="top")
    low = correlation({**given, "rules": ["one"]}, name="low", id=numbered_id(5))
    assert [c.rule.name for c in loaded(tmp_path, *RULES, top, low).correlations] == ["low", "top"]


def test_a_correlation_is_a_rule_that_is_detected_in_user_space(tmp_path):
    given = {"type": "temporal", "rules": ["one", "two"], "timespan": "1m"}
    ruleset = loaded(tmp_path, *RULES, correlation(given, response="freeze"))
    assert ID in {rule.id for rule in ruleset.rules}
    lowered = lower(ruleset)
    assert ID not in lowered.rules
    assert str(of_rules(ruleset, lowered, USUAL_HOST)[ID]) == "detected in user space"
    assert problems(ruleset, lowered, USUAL_HOST) == []


def test_a_check_counts_correlations(tmp_path):
    given = {"type": "temporal", "rules": ["one", "two"], "timespan": "1m"}
    report = check([written(tmp_path, *RULES, correlation(given, response="kill"))])
    assert report.ok
    assert report.by_category["correlation"] == report.by_response["kill"] == 1
