# SPDX-License-Identifier: Apache-2.0
"""Correlations are tried with facts in order: those that must complete one, and those that must not."""

import pytest
import yaml
from ruletext import correlation, detecting, loaded, numbered_id

from monitor.detection.engine import Engine
from monitor.detection.trials import run
from monitor.errors import RuleError

RULES = [
    detecting({"TargetFilename|startswith": "/d/"}, "file_delete", id=numbered_id(1), name="one"),
    correlation(
        {
            "type": "value_count",
            "rules": ["one"],
            "timespan": "10s",
            "condition": {"gte": 3, "field": "TargetFilename"},
        },
        name="many",
    ),
]


def step(**more):
    fields = {"TargetFilename": "/d/{n}"}
    return {"at_s": 0, "category": "file_delete", "fields": fields, "times": 3, **more}


def tried(directory, **keys):
    (directory / "tests").mkdir()
    (directory / "tests" / "many.yml").write_text(yaml.safe_dump(keys))
    return run(Engine(loaded(directory, *RULES)), [directory / "tests"])


def test_what_completes_it_and_what_does_not(tmp_path):
    trial = tried(tmp_path, match_sequence=[[step()]], no_match_sequence=[[step(every_s=6)]])
    assert trial.ok
    assert trial.facts == 2
    assert trial.untried == ("one",)


def test_a_sequence_that_does_not_do_what_it_should_is_named(tmp_path):
    trial = tried(tmp_path, match_sequence=[[step(times=2)]], no_match_sequence=[[step()]])
    assert [(one.key, one.number) for one in trial.failures] == [
        ("match_sequence", 1),
        ("no_match_sequence", 1),
    ]


def test_sequences_do_not_add_up(tmp_path):
    parts = [[step(times=2)], [step(times=1, fields={"TargetFilename": "/d/x"})]]
    assert tried(tmp_path, no_match_sequence=parts).ok


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {"Nothing": 1}}, "there is no Nothing"),
        ({"category": "nothing"}, "there is no"),
        ({"tims": 2}, "tims"),
    ],
)
def test_a_sequence_that_cannot_be_read_is_an_error(tmp_path, changes, message):
    with pytest.raises(RuleError, match=message):
        tried(tmp_path, match_sequence=[[step(**changes)]])
