# SPDX-License-Identifier: Apache-2.0
"""Every category of event has words, done and tried; nothing an agent writes can steer a screen."""

from __future__ import annotations

import pytest

from monitor.alerts import Action, Alert, Level, Outcome, Response, RuleRef, SessionRef
from monitor.fields import CATEGORIES
from monitor.record.sentence import act, sentence


def alert(category="file_event", fields=None, *, verdict="hold", **changed):
    given = {
        "id": "a",
        "time": "2026-11-22T12:00:00.000+00:00",
        "session": SessionRef(id="s", name="helper"),
        "rule": RuleRef(id="r", title="T", level=Level.HIGH),
        "response": Response.FREEZE,
        "outcome": Outcome(action=Action.FROZEN, bytes_out=0),
        "timings_ns": {"frozen": 720_000},
        "event": {
            "category": category,
            "ktime_ns": 1,
            "verdict": verdict,
            "fields": {"Image": "/usr/bin/python3", "ProcessId": 7, **(fields or {})},
        },
    }
    return Alert(**{**given, **changed})


def test_it_says_who_did_what_when_it_was_stopped_and_what_got_out():
    told = sentence(alert(fields={"TargetFilename": "/etc/hosts", "Operation": "open"}))
    assert told == (
        "python3 (pid 7) in helper opened /etc/hosts to write. The whole session was frozen"
        " 0.7 ms after the act and its network cut; it sent nothing in between."
    )


def test_what_was_refused_is_not_told_as_done():
    fields = {"TargetFilename": "/etc/hosts", "Operation": "open"}
    told = sentence(alert(fields=fields, verdict="deny"))
    assert "tried to open /etc/hosts to write; it was refused and did not happen." in told
    assert "opened" not in told


def test_bytes_that_left_are_told():
    assert "; it sent 12 bytes in between" in sentence(
        alert(outcome=Outcome(action=Action.FROZEN, bytes_out=12))
    )


@pytest.mark.parametrize("action", [Action.FAILED, Action.REFUSED])
def test_a_stop_that_failed_is_shouted(action):
    told = sentence(alert(outcome=Outcome(action=action, detail="a task in D state")))
    assert "could NOT be stopped: a task in D state" in told


@pytest.mark.parametrize("category", sorted(set(CATEGORIES) - {"process_termination"}))
def test_every_category_has_words_for_an_event_of_which_little_is_known(category):
    did, tries = act(category, {})
    assert did
    assert tries
    assert "monitor itself" not in did


def test_names_are_shown_and_not_obeyed():
    told = sentence(alert(fields={"TargetFilename": "/tmp/\x1b[2J\n\u202ex\udcff"}))
    assert "\\x1b[2J\\n\\u202ex\\xff" in told
    assert told.isprintable()


def test_a_name_without_end_is_cut():
    assert len(sentence(alert(fields={"TargetFilename": "/" + "x" * 5000}))) < 500
