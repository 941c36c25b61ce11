# SPDX-License-Identifier: Apache-2.0
"""Filter documents take something out of the rules that they name, and of nothing else."""

import pytest
from ruletext import ID, detecting, loaded, numbered_id, rule, written

from monitor.detection.check import check
from monitor.detection.engine import Engine
from monitor.detection.loader import load
from monitor.detection.lower import lower
from monitor.errors import RuleError
from monitor.fields import Fact
from monitor.lowered import Part

FILTER = f"""\
title: Forgiven
id: {numbered_id(9)}
logsource:
    product: linux
    category: file_event
filter:
    rules:
        - hosts
    tool:
        Image|cased: /usr/bin/tool
    condition: not tool
"""
HOSTS = rule(name="hosts", detection=None) | {
    "detection": {"s": {"TargetFilename|cased": "/etc/hosts"}, "condition": "s"}
}


def ruleset(directory, text, *rules, **variables):
    written(directory, *(rules or [HOSTS]), name="a.yml")
    (directory / "b.yml").write_text(text)
    return load([directory], variables=variables)


def matched(rules, image="/usr/bin/tool", category="file_event"):
    fields = {"Image": image, "TargetFilename": "/etc/hosts"}
    return [x.id for x in Engine(rules).evaluate(Fact(category=category, fields=fields))]


def test_a_filter_takes_out_what_it_describes(tmp_path):
    rules = ruleset(tmp_path, FILTER)
    assert matched(rules) == []
    assert matched(rules, "/usr/bin/other") == [ID]


@pytest.mark.parametrize("reference", [ID, ID.upper(), "hosts"])
def test_a_rule_is_named_by_id_or_name(tmp_path, reference):
    assert matched(ruleset(tmp_path, FILTER.replace("- hosts", f"- {reference}"))) == []


def test_a_rule_that_is_not_named_stays_as_it_is(tmp_path):
    other = {**HOSTS, "id": numbered_id(2), "name": "other"}
    assert matched(ruleset(tmp_path, FILTER, HOSTS, other)) == [numbered_id(2)]


def test_any_is_every_rule_of_the_category_that_only_tells(tmp_path):
    rules = [
        HOSTS,
        {**HOSTS, "id": numbered_id(2), "response": "freeze"},
        {**HOSTS, "id": numbered_id(3), "response": "deny"},
        {**HOSTS, "id": numbered_id(4), "response": "log"},
        detecting({"Image|endswith": "tool"}, "file_access", id=numbered_id(5)),
    ]
    text = FILTER.replace("    rules:\n        - hosts\n", "    rules: any\n")
    found = ruleset(tmp_path, text, *rules)
    assert set(matched(found)) == {numbered_id(2), numbered_id(3)}
    assert matched(found, category="file_access") == [numbered_id(5)]


def test_several_filters_of_a_rule_add_up(tmp_path):
    second = FILTER.replace("/usr/bin/tool", "/usr/bin/other").replace(
        numbered_id(9), numbered_id(8)
    )
    rules = ruleset(tmp_path, FILTER + "---\n" + second)
    assert [matched(rules, f"/usr/bin/{name}") for name in ("tool", "other", "x")] == [[], [], [ID]]


def test_the_kernel_forgives_what_a_filter_forgives(tmp_path):
    rules = ruleset(tmp_path, FILTER, {**HOSTS, "response": "freeze"})
    lowering = lower(rules).rules[ID]
    assert {watch.exempt for watch in lowering.watches} == {frozenset({"/usr/bin/tool"})}
    assert lowering.part is not Part.NONE


def test_a_variable_stands_for_its_values_and_without_any_the_filter_is_off(tmp_path):
    text = FILTER.replace("Image|cased: /usr/bin/tool", "Image|startswith|expand: '%home%/'")
    assert matched(ruleset(tmp_path, text, home=["/usr"])) == []
    rules = ruleset(tmp_path, text)
    assert matched(rules) == [ID]
    assert [(x.rule.title, x.reason) for x in rules.inactive] == [
        ("Forgiven", "%home% has no value on this host")
    ]


def test_a_check_says_what_a_filter_narrows(tmp_path):
    ruleset(tmp_path, FILTER)
    [found] = check([tmp_path]).filters
    assert (found.title, found.file, found.rules) == (
        "Forgiven",
        str(tmp_path / "b.yml"),
        ("A rule",),
    )


def test_a_filter_of_another_product_is_passed_over(tmp_path):
    written(tmp_path, rule(), name="a.yml")
    (tmp_path / "b.yml").write_text(FILTER.replace("linux", "windows"))
    report = check([tmp_path])
    assert report.ok
    assert report.passed_over == {"product windows": 1}


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "mend"),
    [
        ("- hosts", "- host", 8, "no rule has the id or name `host`", "`hosts`?"),
        ("- hosts", "- elsewhere", 8, "`elsewhere` is about file_access", ""),
        ("- hosts", "- both", 8, "`both` is about correlation", ""),
        ("    rules:\n        - hosts\n", "", 6, "a filter needs `rules`", ""),
        ("    rules:\n        - hosts\n", "    rules: []\n", 7, "a filter needs `rules`", ""),
        ("Image|cased", "Imge|cased", 10, "unknown field `Imge`", "`Image`?"),
        ("Image|cased", "Image|casd", 10, "unknown modifier `casd`", "`cased`?"),
        ("Image|cased: /usr/bin/tool", "Image|re: '('", 10, "no RE2 expression", ""),
        ("condition: not tool", "condition: not tol", 11, "'tol' not defined", ""),
        ("condition: not tool", "two: {Image: x}\n    condition: not tool", 11, "not used", ""),
        ("    condition: not tool\n", "", 6, "needs one `condition`", ""),
        ("title: Forgiven", "title: ''", 1, "needs a `title`", ""),
        ("title: Forgiven", "title: F\nresponse: log", 2, "unknown key `response`", ""),
        ("title: Forgiven", "title: F\nstatus: x", 2, "not a valid Sigma rule status", ""),
    ],
)
def test_a_fault_is_told_with_its_line_and_a_mend(tmp_path, old, new, line, message, mend):
    assert FILTER.count(old) == 1
    both = {"type": "temporal", "rules": ["hosts"], "timespan": "1s"}
    others = [
        detecting({"Image": "/x"}, "file_access", name="elsewhere", id=numbered_id(2)),
        {"title": "t", "id": numbered_id(3), "name": "both", "level": "low", "correlation": both},
    ]
    with pytest.raises(RuleError) as caught:
        ruleset(tmp_path, FILTER.replace(old, new), HOSTS, *others)
    found = caught.value.problems
    assert {problem.file for problem in found} == {str(tmp_path / "b.yml")}
    assert any(p.line == line and message in p.message and mend in p.mend for p in found), found


def test_an_id_that_a_rule_has_is_no_id_of_a_filter(tmp_path):
    with pytest.raises(RuleError, match="belongs to the rule at"):
        ruleset(tmp_path, FILTER.replace(numbered_id(9), ID))


def test_a_filter_alone_is_sound(tmp_path):
    text = FILTER.replace("    rules:\n        - hosts\n", "    rules: any\n")
    (tmp_path / "b.yml").write_text(text)
    assert load([tmp_path]).rules == ()
    assert loaded(tmp_path, rule()).rules
