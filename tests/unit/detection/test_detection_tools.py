# SPDX-License-Identifier: Apache-2.0
"""What `estop rules lint, test, coverage` say, as functions."""

from __future__ import annotations

import socket

import pytest
import yaml
from ruletext import correlation, detecting, loaded, numbered_id, written

from monitor.alerts import Level, Response
from monitor.cli.replay import replay
from monitor.control import RuleInForce
from monitor.detection import coverage, trials
from monitor.detection.engine import Engine
from monitor.detection.lint import LEFT_OUT, lint
from monitor.errors import RuleError
from monitor.fields import Fact
from monitor.recording.lines import Happening, Header, Writer


def hosts(**changes):
    return detecting({"TargetFilename|cased": "/etc/hosts"}, name="hosts", **changes)


def facts(directory, text, name="hosts"):
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.yml").write_text(text)
    return directory


FILE = "{category: file_event, fields: {TargetFilename: %s}}"
GOOD = f"match: [{FILE % '/etc/hosts'}]\nno_match: [{FILE % '/etc/other'}]\n"


@pytest.fixture
def engine(tmp_path):
    return Engine(loaded(tmp_path, hosts()))


def test_a_rule_that_does_what_its_facts_say_passes(engine, tmp_path):
    trial = trials.run(engine, [facts(tmp_path / "t", GOOD)])
    assert (trial.ok, trial.facts, trial.untried) == (True, 2, ())


def test_every_fact_that_a_rule_takes_wrongly_is_named(engine, tmp_path):
    text = f"match: [{FILE % '/x'}]\nno_match: [{FILE % '/y'}, {FILE % '/etc/hosts'}]\n"
    trial = trials.run(engine, [facts(tmp_path / "t", text)])
    assert [(f.rule, f.key, f.number) for f in trial.failures] == [
        ("hosts", "match", 1),
        ("hosts", "no_match", 2),
    ]
    assert "hosts does not match number 1 under `match`" in str(trial.failures[0])


def test_a_rule_that_is_tried_on_one_side_only_is_named(engine, tmp_path):
    text = f"match: [{FILE % '/etc/hosts'}]\n"
    assert trials.run(engine, [facts(tmp_path / "t", text)]).untried == ("hosts",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "array"),
        ("match: {", "flow"),
        ("match: [{category: file_event}]", "fields"),
        (f"match: [{FILE % 'x'}, {{category: nothing, fields: {{}}}}]", "number 2"),
        ("match: [{category: file_event, fields: {Nothing: 1}}]", "there is no Nothing"),
    ],
)
def test_a_file_of_facts_that_cannot_be_used_is_an_error_that_names_it(
    engine, tmp_path, text, said
):
    with pytest.raises(RuleError, match=r"hosts\.yml") as raised:
        trials.run(engine, [facts(tmp_path / "t", text)])
    assert said in str(raised.value)


def test_advice_names_file_line_and_field(tmp_path):
    file = written(tmp_path, detecting({"TargetFilename|all": ["/a", "/b"]}))
    (advice,) = lint([file])
    assert (advice.file, advice.line) == (str(file), 1)
    assert "detection_item TargetFilename" in advice.message


def test_advice_asks_nobody_over_the_network(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: asked.append(where) or [])
    tags = ["attack.impact", "attack.t1565.001", "d3fend.d3-fc", "car.2014-11-004"]
    lint([written(tmp_path, detecting({"TargetFilename": "/a"}, tags=tags))])
    assert asked == []


def test_advice_on_what_two_rules_have_in_common_names_both(tmp_path):
    one, two = (
        detecting({"TargetFilename": f"/{n}"}, id=numbered_id(n), title="The same") for n in (1, 2)
    )
    told = [advice for advice in lint([written(tmp_path, one, two)]) if "title" in advice.message]
    assert len({advice.line for advice in told}) == 2


def recorded(directory, *times_s):
    """A recording of edits of the hosts file at these seconds."""
    fields = {"TargetFilename": "/etc/hosts", "Operation": "open"}
    writer = Writer()
    lines = [writer.header(Header())]
    for at_s in times_s:
        fact = Fact(category="file_event", fields=fields)
        lines += writer.lines(Happening(round(at_s * 1e9), (fact,)))
    file = directory / f"{len(times_s)}.jsonl"
    file.write_bytes(b"".join(lines))
    return file


def test_a_replay_correlates_by_the_times_of_the_recording_and_begins_anew(tmp_path):
    twice = {"type": "event_count", "rules": ["hosts"], "timespan": "10s", "condition": {"gte": 2}}
    rules = (hosts(), correlation(twice, id=numbered_id(2), title="Twice"))
    engine = Engine(loaded(tmp_path, *rules))

    def titles(*times_s):
        return [match.title for match in replay(recorded(tmp_path, *times_s), engine).matches]

    assert titles(1, 5) == ["Twice"]
    assert titles(1, 20) == []
    assert titles(21) == []  # what another recording ended with


def test_a_rule_that_cannot_be_read_gets_no_advice(tmp_path):
    (tmp_path / "a.yml").write_text(yaml.safe_dump({"title": "no rule"}))
    assert lint([tmp_path]) == []


def test_every_validator_that_is_left_out_exists():
    from sigma.plugins import InstalledSigmaPlugins  # noqa: PLC0415 - slow

    known = InstalledSigmaPlugins.autodiscover(include_backends=False, include_pipelines=False)
    assert LEFT_OUT.keys() <= known.validators.keys()


def in_force(number, *tags, response=Response.ALERT):
    return RuleInForce(
        id=str(number), title=f"Rule {number}", level=Level.HIGH, response=response,
        category="file_event", tags=tags, enforcement="", enforcement_why="",
    )  # fmt: skip


def test_techniques_stand_under_their_tactics_in_the_order_of_attack():
    found = coverage.coverage(
        [
            in_force(1, "attack.impact", "attack.t1565.001"),
            in_force(2, "attack.execution", "attack.T1059"),
            in_force(3, "attack.impact", "attack.t1565.001", response=Response.FREEZE),
            in_force(4, "estop.other"),
            in_force(5, "attack.t1496"),
            in_force(6, "attack.credential_access", "attack.t1552"),
        ]
    )
    assert [(one.tactic, one.technique, one.strongest.id) for one in found] == [
        ("execution", "T1059", "2"),
        ("credential-access", "T1552", "6"),
        ("impact", "T1565.001", "3"),
        ("other", "", "4"),
        ("other", "T1496", "5"),
    ]
    layer = coverage.navigator(found)
    assert [one["techniqueID"] for one in layer["techniques"]] == ["T1059", "T1552", "T1565.001"]
