# SPDX-License-Identifier: Apache-2.0
"""`check` reports what `load` would do, and never raises."""

from pathlib import Path

from ruletext import ID, detecting, rule, written

from monitor.alerts import Response
from monitor.detection.check import check

OTHER = "3f0b5b2e-6f0a-4f57-9d39-0d6a2f0e7c02"


def test_rules_are_counted_by_response_and_category(tmp_path):
    quiet = detecting({"Image": "/x"}, "dns_query", id=OTHER, response="log")
    report = check([written(tmp_path, rule(response="freeze"), quiet)])
    assert report.ok
    assert report.by_response == {n: n in {"log", "freeze"} for n in Response}
    assert {name: n for name, n in report.by_category.items() if n} == {
        "file_event": 1,
        "dns_query": 1,
    }


def test_sound_rules_are_counted_beside_the_problems_of_others(tmp_path):
    report = check([written(tmp_path, rule(), rule(id=OTHER, level="x"))])
    assert not report.ok
    assert [found.id for found in report.rules] == [ID]
    assert [problem.message for problem in report.problems] == ["unknown level `x`"]


def test_every_problem_of_every_file_is_told_at_once(tmp_path):
    files = [
        written(tmp_path, rule(level="x", response="stop"), name="one.yml"),
        written(tmp_path, rule(id=OTHER, level="y"), name="two.yml"),
    ]
    told = {(Path(problem.file).name, problem.message) for problem in check(files).problems}
    assert told == {
        ("one.yml", "unknown level `x`"),
        ("one.yml", "unknown response `stop`"),
        ("two.yml", "unknown level `y`"),
    }


def test_rules_that_are_off_are_listed_with_the_reason(tmp_path):
    off = detecting({"TargetFilename|expand": "%home%/x"})
    report = check([written(tmp_path, off)])
    assert report.ok
    assert [(x.rule.id, x.reason) for x in report.inactive] == [
        (ID, "%home% has no value on this host")
    ]


def test_a_path_that_is_not_there_is_a_problem_and_no_exception(tmp_path):
    assert not check([tmp_path / "gone"]).ok
