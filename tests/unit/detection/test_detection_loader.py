# SPDX-License-Identifier: Apache-2.0
"""Rule files that are wrong are told so with file and line; sound ones become rules."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import pytest
from ruletext import ID, detecting, loaded, rule, written

from monitor.alerts import Level, Response
from monitor.detection.condition import Leaf, Match
from monitor.detection.loader import load
from monitor.errors import RuleError

HEAD = f"""\
title: A rule
id: {ID}
logsource:
    product: linux
    category: file_event
level: high
"""
DETECTION = "detection:\n    s: {TargetFilename: /etc/hosts}\n    condition: s\n"
SOUND = HEAD + DETECTION + "response: alert\n"


def problems(directory, text, **variables):
    file = directory / "rule.yml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(RuleError) as caught:
        load([file], variables=variables)
    assert all(problem.file == str(file) for problem in caught.value.problems)
    return [(p.line, p.message, p.mend) for p in caught.value.problems]


def one_problem(directory, text, **variables):
    [found] = problems(directory, text, **variables)
    return found


def test_a_sound_rule_carries_its_author_and_reasons(tmp_path):
    text = rule(
        author="Ann",
        name="hosts",
        description="why\n",
        tags=["attack.impact"],
        falsepositives=["work"],
        response="freeze",
    )
    file = written(tmp_path, text)
    [found] = load([file]).rules
    assert (found.id, found.title, found.name, found.author) == (ID, "A rule", "hosts", "Ann")
    assert (found.level, found.response) == (Level.HIGH, Response.FREEZE)
    assert (found.tags, found.falsepositives) == (("attack.impact",), ("work",))
    assert (found.description, found.category, found.file) == ("why", "file_event", str(file))


@pytest.mark.parametrize(
    ("level", "response"), [("high", "alert"), ("low", "alert"), ("informational", "log")]
)
def test_without_a_response_a_rule_alerts_and_an_informational_one_logs(tmp_path, level, response):
    assert loaded(tmp_path, rule(level=level, response=None)).rules[0].response == response


@pytest.mark.parametrize("level", ["informational", "critical"])
def test_a_response_that_is_given_holds_for_every_level(tmp_path, level):
    assert loaded(tmp_path, rule(level=level, response="kill")).rules[0].response == "kill"


# Faults of the file ---------------------------------------------------------------------------


def test_a_duplicate_key_is_refused_with_its_line(tmp_path):
    text = SOUND.replace("{TargetFilename: /etc/hosts}", "\n        Image: /a\n        Image: /b")
    line, message, _ = one_problem(tmp_path, text)
    assert (line, message) == (10, "the key `Image` is already there on line 9")


def test_every_duplicate_key_is_found_not_just_the_first(tmp_path):
    text = "title: a\ntitle: b\nlogsource:\n    product: x\n    product: y\n"
    assert {line for line, *_ in problems(tmp_path, text)} == {2, 5}


@pytest.mark.parametrize(("key", "line"), [("on: x\n", 1), ("1: x\n", 1), ("? [a]\n: x\n", 1)])
def test_a_key_that_yaml_does_not_take_for_text_is_refused(tmp_path, key, line):
    found = one_problem(tmp_path, key + "title: A rule\n")
    assert found[0] == line
    assert "is not text" in found[1]


@pytest.mark.parametrize(
    "text", ["a: &x [1]\nb: *x\n", "a: &x\n    b: *x\n", "a: &x {b: 1}\nc:\n    <<: *x\n"]
)
def test_anchors_are_refused(tmp_path, text):
    assert any("anchors" in message for _, message, _ in problems(tmp_path, text))


def test_an_alias_bomb_is_refused_in_linear_time(tmp_path):
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    assert problems(tmp_path, "\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("title: a\nid: [\n", 3),
        ("title: a\nb: \t- c\n", 2),
        ("title: a\nid: \x00\n", 2),
        ("title: a\nid: !!python/object:os.x 1\n", 2),
        ("date: 2026-99-99\n", 0),
    ],
)
def test_what_is_not_yaml_is_told_with_its_line(tmp_path, text, line):
    found = one_problem(tmp_path, text)
    assert found[0] == line
    assert found[1].startswith("is not YAML: ")


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path):
    line, message, mend = one_problem(tmp_path, b"title: a\ndescription: caf\xe9\n")
    assert (line, message, mend) == (2, "is not UTF-8 text", "save the file as UTF-8")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n---\n"])
def test_a_file_without_a_rule_is_refused(tmp_path, text):
    assert one_problem(tmp_path, text)[:2] == (0, "holds no rule")


@pytest.mark.parametrize(("text", "line"), [("- a\n", 1), ("\n\njust text\n", 3)])
def test_a_document_that_is_no_mapping_is_refused(tmp_path, text, line):
    found = one_problem(tmp_path, text)
    assert found[0] == line
    assert "is not a mapping" in found[1]


def test_several_rules_may_share_a_file_and_a_trailing_marker_is_no_rule(tmp_path):
    other = SOUND.replace(ID, "3f0b5b2e-6f0a-4f57-9d39-0d6a2f0e7c02")
    (tmp_path / "two.yml").write_text(SOUND + "---\n" + other + "---\n")
    assert len(load([tmp_path]).rules) == 2


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RuleError, match=r"gone\.yml: cannot be read: No such file"):
        load([tmp_path / "gone.yml"])


@pytest.fixture
def as_nobody():
    """Root reads everything, so root becomes somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.fixture
def open_directory():
    """A directory that everybody may enter, unlike pytest's own."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_directory_that_cannot_be_read_is_refused(open_directory, request):
    written(open_directory, rule())
    (open_directory / "closed").mkdir(mode=0)
    request.getfixturevalue("as_nobody")
    with pytest.raises(RuleError, match="closed: cannot be read: Permission denied"):
        load([open_directory])


def test_a_file_that_cannot_be_read_is_refused(open_directory, request):
    written(open_directory, rule()).chmod(0)
    request.getfixturevalue("as_nobody")
    with pytest.raises(RuleError, match=r"rule\.yml: cannot be read: Permission denied"):
        load([open_directory])


def test_a_directory_in_the_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "rule.yml").symlink_to("rule.yml")
    with pytest.raises(RuleError, match=r"rule\.yml: cannot be read: "):
        load([tmp_path])


def test_directories_are_searched_below_and_hidden_names_left_out(tmp_path):
    for directory in ("deep/er", ".git"):
        (tmp_path / directory).mkdir(parents=True)
        written(tmp_path / directory, rule(), name="rule.yaml")
    (tmp_path / ".#draft.yml").symlink_to("nowhere")
    (tmp_path / "README.md").write_text("no rule")
    assert len(load([tmp_path]).rules) == 1


def test_a_linked_directory_is_searched_once_even_if_it_leads_back(tmp_path):
    (tmp_path / "rules").mkdir()
    written(tmp_path / "rules", rule())
    for name in ("again", "and-again"):  # without a memory this doubles at every level
        (tmp_path / "rules" / name).symlink_to(tmp_path)
    assert len(load([tmp_path, tmp_path / "rules"]).rules) == 1


@pytest.mark.parametrize("paths", [[], ["empty"]])
def test_no_rule_file_at_all_is_refused(tmp_path, paths):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuleError, match="holds no rule file"):
        load([tmp_path / path for path in paths])


def test_the_digest_follows_the_content(tmp_path):
    first = loaded(tmp_path, rule()).digest
    assert first == loaded(tmp_path, rule()).digest
    assert first != loaded(tmp_path, rule(title="Another")).digest


# Faults of a rule -----------------------------------------------------------------------------


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


# Variables ------------------------------------------------------------------------------------


def test_a_variable_stands_for_each_of_its_values(tmp_path):
    entries = {"TargetFilename|startswith|expand": ["%home%/.ssh/", "%home%/x/%home%"]}
    ruleset = loaded(tmp_path, detecting(entries), variables={"home": ["/root", "/h/a"]})
    [signature] = ruleset.signatures
    assert {leaf.value for leaf in signature.condition.terms} == {
        *("/root/.ssh/", "/h/a/.ssh/", "/root/x//root", "/root/x//h/a", "/h/a/x//root"),
        "/h/a/x//h/a",
    }


def test_more_homes_than_sigma_would_expand_are_no_problem(tmp_path):
    homes = [f"/home/u{n}" for n in range(500)]
    entries = {"TargetFilename|startswith|expand": "%home%/.ssh/"}
    [signature] = loaded(tmp_path, detecting(entries), variables={"home": homes}).signatures
    assert len(signature.condition.terms) == 500


def test_a_variable_works_under_cidr_and_in_an_expression(tmp_path):
    variables = {"payment_address": ["203.0.113.0/24"], "home": ["/h/a.b*"]}
    entries = {"DestinationIp|cidr|expand": "%payment_address%", "Image|re|expand": "^%home%/x"}
    ruleset = loaded(tmp_path, detecting(entries, "network_connection"), variables=variables)
    network, regex = ruleset.signatures[0].condition.terms
    assert network == Leaf("DestinationIp", Match.NETWORK, "203.0.113.0/24")
    assert regex == Leaf("Image", Match.REGEX, r"^\/h\/a\.b\*/x")


def test_nothing_in_a_variable_is_a_wildcard(tmp_path):
    entries = {"TargetFilename|expand": "%home%"}
    [signature] = loaded(tmp_path, detecting(entries), variables={"home": ["/h/*?\\"]}).signatures
    assert signature.condition == Leaf("TargetFilename", Match.EQUALS, "/h/*?\\")


@pytest.mark.parametrize("variables", [{}, {"home": []}])
def test_a_rule_without_a_value_for_its_variable_is_off_and_says_why(tmp_path, variables):
    entries = {"TargetFilename|expand": "%home%/x"}
    ruleset = loaded(tmp_path, detecting(entries), variables=variables)
    assert ruleset.rules == ()
    [off] = ruleset.inactive
    assert (off.rule.id, off.reason) == (ID, "%home% has no value on this host")


@pytest.mark.parametrize(
    ("entry", "message", "mend"),
    [
        ("TargetFilename|expand: '%hmoe%'", "unknown variable `%hmoe%`", "did you mean `home`?"),
        ("TargetFilename|expand: /x", "`/x` names no variable", "leave out `|expand`"),
        ("TargetFilename: '%home%/x'", "`%home%/x` is taken as it stands", "add `|expand`"),
    ],
)
def test_a_variable_that_would_not_be_replaced_is_refused(tmp_path, entry, message, mend):
    text = SOUND.replace("TargetFilename: /etc/hosts", entry)
    assert one_problem(tmp_path, text, home=["/root"]) == (8, message, mend)


def test_a_bad_value_of_a_variable_is_told_at_the_rule_that_uses_it(tmp_path):
    text = SOUND.replace("TargetFilename: /etc/hosts", "Image|cidr|expand: '%payment_address%'")
    line, message, _ = one_problem(tmp_path, text, payment_address=["203.0.113.9/24"])
    assert line == 8
    assert "has host bits set" in message


def test_a_field_beside_its_expanded_twin_is_refused_instead_of_lost(tmp_path):
    text = dedent(SOUND).replace(
        "{TargetFilename: /etc/hosts}", "\n        Image: /a\n        Image|expand: '%home%'"
    )
    lines = {line for line, *_ in problems(tmp_path, text, home=["/root"])}
    assert lines == {9, 10}


# The rule set ---------------------------------------------------------------------------------


def test_watched_paths_are_those_that_name_one_file(tmp_path):
    entries = [
        {"TargetFilename|cased": "/etc/hosts"},
        {"TargetFilename|endswith": ["/.aws/credentials", ".pem", "/logins.json"]},
        {"TargetFilename|startswith": "/etc/cron.d/"},
        {"TargetFilename": "relative"},
        {"SourceFilename": "/etc/source"},
        {"Image": "/usr/bin/image"},
    ]
    ruleset = loaded(tmp_path, detecting(entries))
    assert ruleset.watched_paths(["/root/", "/home/ann"]) == (
        "/etc/hosts",
        "/home/ann/.aws/credentials",
        "/root/.aws/credentials",
    )


def test_a_path_that_only_a_filter_names_is_not_watched(tmp_path):
    detection = {
        "selection": {"TargetFilename": ["/a", "/b"]},
        "filter": {"TargetFilename": "/c"},
        "condition": "selection and not filter",
    }
    assert loaded(tmp_path, rule(detection=detection)).watched_paths([]) == ("/a", "/b")
