# SPDX-License-Identifier: Apache-2.0
"""A rule that is wrong is told so with its file, its line and a mend, and all of them at once."""

import os

import pytest
from ruletext import ID, SOUND, one_problem, problems, rule, written

from monitor.detection.loader import load
from monitor.errors import RuleError


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "mend"),
    [
        ("level: high", "levle: high", 1, "a rule needs a `level`", ""),
        ("level: high", "level: hihg", 6, "unknown level `hihg`", "did you mean `high`?"),
        ("level: high", "level: high\nrespons: kill", 7, "unknown key `respons`", "`response`"),
        ("response: alert", "response: stop", 10, "unknown response `stop`", "freeze"),
        ("response: alert", "response: ferze", 10, "unknown response", "`freeze`?"),
        ("response: alert", "response: [kill]", 10, "unknown response", "`kill`?"),
        ("response: alert", "response:", 10, "unknown response `None`", "one of"),
        ("title: A rule", "title: ''", 1, "a rule needs a `title`", ""),
        (f"id: {ID}\n", "", 1, "a rule needs an `id`", "uuidgen"),
        (ID, "hosts", 2, "the id `hosts` is no UUID", "uuidgen"),
        (ID, "12", 2, "the id `12` is no UUID", "uuidgen"),
        ("product: linux", "product: windows", 4, "a rule needs `product: linux`", ""),
        ("    product: linux\n", "", 3, "a rule needs `product: linux`", ""),
        ("file_event", "file_evnet", 5, "unknown logsource category", "`file_event`?"),
        ("file_event", "[x]", 5, "unknown logsource category", "one of"),
        ("category: file_event", "service: auditd", 5, "the log of `auditd` is not read", ""),
        ("level: high", "level: high\nstatus: fresh", 7, "not a valid Sigma rule status", ""),
        ("level: high", "level: high\ntags: [impact]", 7, "no namespace", "attack.impact"),
        ("level: high", "level: high\nfalsepositives:\n- A: b", 8, "no text", "quotes"),
        ("level: high", "level: high\ndate: soon", 7, "Rule date 'soon' is invalid", ""),
        ("level: high", "level: high\nfalsepositives: x", 7, "must be a list", ""),
        ("TargetFilename", "TargetFileName", 8, "unknown field", "`TargetFilename`?"),
        ("TargetFilename", "QueryName", 8, "unknown field `QueryName`", ""),
        ("TargetFilename", "TargetFilename|startwith", 8, "unknown modifier", "`startswith`?"),
        ("TargetFilename", "TargetFilename|hour", 8, "no field holds a time", ""),
        (
            "TargetFilename: /etc/hosts",
            "Image|fieldref: ParentImge",
            8,
            "unknown",
            "`ParentImage`?",
        ),
        ("TargetFilename: /etc/hosts", "Image|cased|fieldref: Script", 8, "regard to case", ""),
        ("TargetFilename", "TargetFilename|re|contains", 8, "`re` looks anywhere", "anchor"),
        ("TargetFilename", "Inode|gt", 8, "`/etc/hosts` cannot be used", ""),
        ("TargetFilename", "Inode|cidr", 8, "`/etc/hosts` cannot be used", ""),
        ("TargetFilename: /etc/hosts", "TargetFilename: []", 8, "has no value", ""),
        ("/etc/hosts", "{a: b}", 8, "is no single value", ""),
        ("/etc/hosts", "[[a]]", 8, "is no single value", ""),
        ("/etc/hosts", "2026-01-01", 8, "cannot be used", ""),
        ("TargetFilename: /etc/hosts", "TargetFilename|contains: ''", 8, "in every value", ""),
        ("TargetFilename: /etc/hosts", "TargetFilename|endswith: '**'", 8, "in every value", ""),
        ("TargetFilename: /etc/hosts", "TargetFilename|re: '(?=x)'", 8, "no RE2 expression", ""),
        ("TargetFilename: /etc/hosts", "TargetFilename|re: 5", 8, "`5` is no text", "quotes"),
        ("{TargetFilename: /etc/hosts}", "{}", 8, "`s` is empty", ""),
        ("{TargetFilename: /etc/hosts}", "", 8, "`s` is empty", ""),
        ("{TargetFilename: /etc/hosts}", "[/etc/hosts]", 8, "a value without a field", "name"),
        ("{TargetFilename: /etc/hosts}", "/etc/hosts", 8, "a value without a field", "name"),
        ("TargetFilename: /etc/hosts", "'|all': x", 8, "unknown field ``", ""),
        ("condition: s", "condition: s and t", 9, "'t' not defined", ""),
        ("condition: s", "condition: 1 of x*", 9, "doesn't match any detection", ""),
        ("condition: s", "condition: s and", 9, "the condition is cut short", ""),
        ("condition: s", "condition: s or s s", 9, "cannot be read from `s` on", ""),
        ("condition: s", "condition: s | count() > 5", 9, "pipe syntax", ""),
        ("condition: s", "condition: [s]", 9, "a detection needs one `condition`", ""),
        ("    condition: s\n", "", 7, "a detection needs one `condition`", ""),
        ("condition: s", "t: {Image: x}\n    condition: s", 9, "`t` is not used", ""),
    ],
)
def test_a_fault_is_told_with_its_line_and_a_mend(tmp_path, old, new, line, message, mend):
    assert SOUND.count(old) == 1
    found = problems(tmp_path, SOUND.replace(old, new))
    assert any(at == line and message in said and mend in advice for at, said, advice in found), (
        found
    )


def test_the_line_is_that_of_the_value_in_a_list(tmp_path):
    values = "\n        TargetFilename|re:\n            - a\n            - '('\n"
    assert one_problem(tmp_path, SOUND.replace(" {TargetFilename: /etc/hosts}", values))[0] == 11


def test_the_line_counts_from_the_start_of_the_file_not_of_the_document(tmp_path):
    other = SOUND.replace(ID, "3f0b5b2e-6f0a-4f57-9d39-0d6a2f0e7c02").replace("high", "hihg")
    assert one_problem(tmp_path, SOUND + "---\n" + other)[0] == 17


def test_all_problems_of_all_files_come_at_once(tmp_path):
    written(tmp_path, rule(level="x", response="y"), name="one.yml")
    written(tmp_path, rule(title=None), name="two.yml")
    (tmp_path / "three.yml").write_text("- a\n")
    with pytest.raises(RuleError) as caught:
        load([tmp_path])
    files = [os.path.basename(problem.file) for problem in caught.value.problems]
    # Both rules have the same id, too.
    assert sorted(files) == ["one.yml", "one.yml", "three.yml", "two.yml", "two.yml"]


def test_the_same_id_twice_names_the_first_place(tmp_path):
    first = written(tmp_path, rule(), name="a.yml")
    second = written(tmp_path, rule(id=ID.upper()), name="b.yml")
    assert load([second]).rules[0].id == ID
    with pytest.raises(RuleError) as caught:
        load([tmp_path])
    [problem] = caught.value.problems
    assert (problem.file, problem.line) == (str(second), 2)
    assert problem.message == f"the id `{ID}` belongs to the rule at {first}:2"


def test_what_sigma_has_and_this_version_has_not_is_said_plainly(tmp_path):
    text = "title: x\naction: global\nresponse: alert\n"
    message = "document actions (global, reset, repeat) are not supported"
    assert one_problem(tmp_path, text) == (2, message, "")


def test_a_condition_that_is_nested_too_deeply_is_refused(tmp_path):
    deep = SOUND.replace("condition: s", "condition: " + "not " * 60 + "s")
    assert one_problem(tmp_path, deep)[:2] == (9, "the condition is nested too deeply")
