# SPDX-License-Identifier: Apache-2.0
"""What `estop rules verify` proves of rules, and what it must not claim of their close relatives."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as some
from ruletext import correlation, detecting, numbered_id, rule, written

from monitor.cli.main import estop
from monitor.detection.condition import Leaf, Match
from monitor.detection.fold import holds
from monitor.detection.implied import implied
from monitor.detection.loader import read
from monitor.detection.reading import NO_VARIABLES
from monitor.detection.verify import Kind, verify

pytest.importorskip("z3", reason="the extra `verify` is not installed")

LIBRARY = Path(__file__).parents[3] / "rules"


def found(directory, *rules, limit_s=20.0):
    reading = read([written(directory, *rules)], NO_VARIABLES)
    assert reading.problems == []
    verdict = verify(reading, lambda _done, _rules: None, limit_s=limit_s)
    assert verdict.undecided == [] or limit_s < 1
    return verdict


def kinds(directory, *rules):
    return [(one.kind, one.rule) for one in found(directory, *rules).findings]


def denying(entries, taken_out, **changes):
    detection = {"selection": entries, "good": taken_out, "condition": "selection and not good"}
    return rule(detection=detection, name="denying", **changes)


def pair(first, second, response="alert", category="file_event"):
    """Two rules of one category; `response` is that of the second."""
    return (
        detecting(first, category, id=numbered_id(1), name="first"),
        detecting(second, category, id=numbered_id(2), name="second", response=response),
    )


DEAD = [
    {"TargetFilename|cased": "/etc/hosts", "TargetFilename|endswith": ".bak"},
    {"TargetFilename|startswith": "/etc/", "TargetFilename|contains|all": ["a"], "TargetFilename": "/b"},
    {"Image": None, "Image|endswith": "/sh"},
    {"Image|endswith|cased": "/SH", "Image|contains|neq": "sh"},
    {"Operation|cased": "open", "Operation|re": "^chmod$"},
    {"Mode|gt": 10, "Mode|lte": 10},
    {"Tainted": None, "Tainted|contains": "credential"},
]  # fmt: skip
LIVING = [
    {"Operation": "open", "Operation|re": "^OPEN$"},
    {"TargetFilename|cased": "/etc/hosts", "TargetFilename|endswith": "HOSTS"},
    {"TargetFilename|startswith": "/etc/", "TargetFilename|endswith": "/hosts"},
    {"Image|endswith|cased": "/SH", "Image|contains|cased|neq": "sh"},
    {"Mode|gte": 10, "Mode|lte": 10},
    {"Operation": ["open", "chmod"], "Operation|re": "^chmod$"},
    {"Tainted": "credential", "Tainted|endswith": "network"},
    {"Image|fieldref": "ParentImage", "Image|endswith": "/sh"},
]


@pytest.mark.parametrize("entries", DEAD, ids=str)
def test_a_rule_that_contradicts_itself_can_never_fire(tmp_path, entries):
    ((kind, _name),) = kinds(tmp_path, detecting(entries))
    assert kind in {Kind.DEAD, Kind.SWALLOWED}


@pytest.mark.parametrize("entries", LIVING, ids=str)
def test_a_rule_that_some_event_satisfies_is_not_called_dead(tmp_path, entries):
    assert kinds(tmp_path, detecting(entries)) == []


def test_what_contradicts_what_is_told_with_file_and_line(tmp_path):
    (finding,) = found(tmp_path, detecting(DEAD[0], name="bak")).findings
    assert str(finding).startswith(f"{tmp_path}/rule.yml:{finding.line}: `bak` can never fire: ")
    assert "/etc/hosts" in finding.message
    assert ".bak" in finding.message
    assert (tmp_path / "rule.yml").read_text().splitlines()[finding.line - 1] == "response: alert"


def test_a_rule_that_takes_out_all_that_it_selects_is_swallowed(tmp_path):
    one = denying({"TargetFilename|endswith": "/hosts"}, {"TargetFilename|contains": "hosts"})
    assert kinds(tmp_path, one) == [(Kind.SWALLOWED, "denying")]


@pytest.mark.parametrize("taken_out", ["/hosts.bak", "/etc/hosts"])
def test_a_rule_that_takes_out_a_part_is_not_swallowed(tmp_path, taken_out):
    one = denying({"TargetFilename|endswith": "/hosts"}, {"TargetFilename|endswith": taken_out})
    assert kinds(tmp_path, one) == []


def a_filter(taken_out):
    return {
        "title": "A filter",
        "id": numbered_id(9),
        "logsource": {"product": "linux", "category": "file_event"},
        "filter": {"rules": ["denying"], "tool": taken_out, "condition": "not tool"},
    }


def test_a_filter_document_that_leaves_nothing_of_a_rule_is_named(tmp_path):
    one = denying({"Operation": "open"}, {"Image": "/bin/a"})
    (finding,) = found(tmp_path, one, a_filter({"Operation": ["open", "create"]})).findings
    assert (finding.kind, finding.by) == (Kind.SWALLOWED, str(tmp_path / "rule.yml"))


def test_a_filter_document_that_leaves_something_is_not_blamed(tmp_path):
    one = denying({"Operation": "open"}, {"Image": "/bin/a"})
    assert kinds(tmp_path, one, a_filter({"Operation": "open", "Image": "/bin/b"})) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"TargetFilename": "/etc/hosts"}, {"TargetFilename|startswith": "/etc/"}),
        ({"TargetFilename|endswith|cased": "/.ssh/id"}, {"TargetFilename|contains": "/.SSH/"}),
        ({"Image": "/bin/a", "Operation": "open"}, {"Operation": ["open", "create"]}),
        ({"Tainted": "credential"}, {"Tainted|startswith": "cred"}),
    ],
)
def test_a_rule_that_another_one_tells_too_is_shadowed(tmp_path, first, second):
    (finding,) = found(tmp_path, *pair(first, second)).findings
    assert (finding.kind, finding.rule, finding.by) == (Kind.SHADOWED, "first", "second")


def test_a_rule_that_only_feeds_a_correlation_shadows_nobody_and_is_not_shadowed(tmp_path):
    rules = pair({"Image": "/bin/a", "Operation": "open"}, {"Image": "/bin/a"})
    given = {"type": "event_count", "timespan": "1m", "condition": {"gte": 5}}
    assert kinds(tmp_path, *rules) == [(Kind.SHADOWED, "first")]
    for fed in ("first", "second"):
        feeds = correlation({**given, "rules": [fed]}, id=numbered_id(3), name="third")
        assert kinds(tmp_path, *rules, feeds) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"TargetFilename|startswith": "/etc/"}, {"TargetFilename|startswith|cased": "/etc/"}),
        ({"Image": "/bin/a"}, {"Image": "/bin/a", "Operation": "open"}),
        ({"TargetFilename|re": "^/etc/"}, {"TargetFilename|startswith": "/etc/"}),
        ({"TargetFilename|endswith": "/a"}, {"TargetFilename|startswith": "/"}),
    ],
)
def test_a_rule_that_matches_more_than_another_one_is_not_shadowed_by_it(tmp_path, first, second):
    assert (Kind.SHADOWED, "first") not in kinds(tmp_path, *pair(first, second))


def test_a_weaker_rule_or_one_of_another_category_shadows_nothing(tmp_path):
    wide = {"TargetFilename|startswith": "/etc/"}
    first, second = pair({"TargetFilename": "/etc/hosts"}, wide, response="log")
    assert kinds(tmp_path, first, second) == []
    second |= {"response": "alert", "logsource": {"product": "linux", "category": "file_delete"}}
    assert kinds(tmp_path, first, second) == []


def test_a_question_that_takes_too_long_is_told_as_undecided(tmp_path):
    verdict = found(tmp_path, detecting(DEAD[0], name="bak"), limit_s=1e-9)
    assert (verdict.findings, verdict.undecided) == ([], ["whether `bak` can fire"])


TEXTS = some.text("aAbk/1\u212aé", max_size=4)
MATCHES = [Match.EQUALS, Match.PREFIX, Match.SUFFIX, Match.CONTAINS, Match.NULL, Match.LESS]
MATCHES += [Match.AT_MOST, Match.MORE, Match.AT_LEAST]


@some.composite
def comparisons(draw, field):
    match = draw(some.sampled_from(MATCHES))
    if match is Match.NULL:
        return Leaf(field, match)
    if match in MATCHES[5:]:
        return Leaf(field, match, float(draw(some.integers(0, 3))))
    return Leaf(field, match, draw(TEXTS), draw(some.booleans()))


@pytest.mark.parametrize("field", ["TargetFilename", "Tainted"])
def test_what_is_said_to_follow_does_so_in_the_engine(field):
    @given(comparisons(field), comparisons(field), some.data())
    def follows(known, other, data):
        texts = TEXTS | some.just(str(known.value)) | some.integers(0, 3).map(str)
        value = data.draw(some.none() | texts | some.lists(texts) if field == "Tainted" else texts)
        if holds(known, value) and implied(known, other) is not None:
            assert holds(other, value) is implied(known, other)

    follows()


def asked(*arguments):
    return CliRunner().invoke(estop, ["rules", "verify", *map(str, arguments)])


def test_the_command_ends_with_1_if_there_is_something(tmp_path):
    dead, sound = tmp_path / "dead", tmp_path / "sound"
    dead.mkdir()
    sound.mkdir()
    written(dead, detecting(DEAD[0], name="bak"))
    written(sound, detecting(LIVING[0]))
    said = asked("--json", dead)
    assert said.exit_code == 1
    assert [one["rule"] for one in json.loads(said.stdout)["findings"]] == ["bak"]
    said = asked(sound)
    assert (said.exit_code, said.stderr) == (0, "")
    assert "1 rules: 0 dead, 0 swallowed, 0 shadowed, 0 questions undecided" in said.stdout


def test_without_the_prover_the_mend_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["monitor.detection.prover"], "z3", None)
    written(tmp_path, detecting(LIVING[0]))
    said = asked(tmp_path)
    assert said.exit_code != 0
    assert "pip install z3-solver" in said.stderr


VARIABLES = {
    "home": ["/root"],
    "estop": ["/run/estop"],
    "estop_secret": ["/var/lib/estop/alerts.db"],
    "payment_address": ["203.0.113.0/24"],
}


def test_no_shipped_rule_is_dead_or_swallowed():
    """Pairs of them take half a minute: `estop rules verify` asks about those."""
    reading = read([LIBRARY], VARIABLES)
    verdict = verify(reading, lambda _done, _rules: None, limit_s=60, pairs=False)
    assert (verdict.findings, verdict.undecided) == ([], [])
