# SPDX-License-Identifier: Apache-2.0
"""Which files are read, and what is told of one that holds no rules."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from ruletext import ID, SOUND, loaded, one_problem, problems, rule, written

from monitor.alerts import Level, Response
from monitor.detection.loader import load
from monitor.errors import RuleError

# Sound rules ------------------------------------------------------------------------------------


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


def test_several_rules_may_share_a_file_and_a_trailing_marker_is_no_rule(tmp_path):
    other = SOUND.replace(ID, "3f0b5b2e-6f0a-4f57-9d39-0d6a2f0e7c02")
    (tmp_path / "two.yml").write_text(SOUND + "---\n" + other + "---\n")
    assert len(load([tmp_path]).rules) == 2


def test_the_digest_follows_the_content(tmp_path):
    first = loaded(tmp_path, rule()).digest
    assert first == loaded(tmp_path, rule()).digest
    assert first != loaded(tmp_path, rule(title="Another")).digest


# Files that are no text of rules ----------------------------------------------------------------


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


# Files and directories --------------------------------------------------------------------------


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
