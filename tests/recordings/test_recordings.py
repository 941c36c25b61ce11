# SPDX-License-Identifier: Apache-2.0
"""Recorded ordinary work through the shipped rules: nothing is stopped, and next to nothing alerts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.private_monitor import ESTOP
from monitor.alerts import Response
from monitor.cli.replay import engine_of, replay
from monitor.fields import Fact
from monitor.recording.lines import Happening, Header, Writer

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "rules"
RECORDINGS = sorted(HERE.glob("*.jsonl"))
ALERTS_AN_HOUR = 2


@pytest.fixture(scope="module")
def engine():
    return engine_of([RULES], ["home=/home/user", "home=/root"])  # whose they were, by `make.py`


@pytest.fixture(scope="module")
def reports(engine):
    return [replay(file, engine) for file in RECORDINGS]


@pytest.fixture
def edit(tmp_path):
    """A session that edits the hosts file."""
    fields = {"Image": "/usr/bin/tee", "Operation": "open", "TargetFilename": "/etc/hosts"}
    happening = Happening(1, (Fact(category="file_event", fields=fields),))
    writer = Writer()
    file = tmp_path / "edit.jsonl"
    file.write_bytes(writer.header(Header()) + b"".join(writer.lines(happening)))
    return file


def test_ordinary_work_stops_nothing(reports):
    stopped = [(r.file, match.title) for r in reports for match in r.at_least(Response.DENY)]
    assert stopped == []


def test_ordinary_work_alerts_at_most_twice_an_hour(reports):
    alerts = [(r.file, match.title) for r in reports for match in r.at_least(Response.ALERT)]
    hours = sum(report.seconds for report in reports) / 3600
    assert len(alerts) <= ALERTS_AN_HOUR * hours, alerts


def test_recordings_hold_events_of_every_ordinary_kind():
    text = "".join(file.read_text() for file in RECORDINGS)
    for category in ("process_creation", "file_access", "file_event", "file_rename"):
        assert f'"category":"{category}"' in text
    assert '"lost"' not in text


def test_an_edit_of_the_hosts_file_is_found_in_a_recording(engine, edit):
    report = replay(edit, engine)
    assert (report.events, report.facts) == (1, 1)
    assert [match.response for match in report.at_least(Response.FREEZE)] == [Response.FREEZE]


@pytest.mark.parametrize(("options", "status"), [([], 0), (["--fail-on", "freeze"], 1)])
def test_the_command_says_what_would_have_been_stopped(edit, options, status):
    command = [ESTOP, "rules", "replay", edit, "--rules", RULES, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "freeze  Name resolution changed in place: /etc/hosts" in done.stdout


def test_a_recording_of_work_ends_well_whatever_is_asked():
    command = [ESTOP, "rules", "replay", "--rules", RULES, "--fail-on", "deny", *RECORDINGS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
