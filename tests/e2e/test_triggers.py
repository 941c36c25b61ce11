# SPDX-License-Identifier: Apache-2.0
"""Signatures against the real act: the `trigger` of tests/rules/NAME.yml, in a session of its own.

All are run one after the other on one stage (tests/stage/stage.sh), by a session that is only
observed. A program that would do harm is played by another one under its name.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from environment import environ

from agent.private_monitor import private_monitor
from monitor.detection.host import host_variables
from monitor.detection.loader import load
from tests.stage.perform import perform

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

PROJECT = Path(__file__).parents[2]
OWN = Path("/run/estop")
VARIABLES = host_variables(["203.0.113.0/24"], [OWN], [OWN / "alerts.db"])
IDS = {
    rule.name: rule.id for rule in load([PROJECT / "rules"], variables=VARIABLES).rules if rule.name
}


def triggers() -> dict[str, str]:
    found = {}
    for file in sorted((PROJECT / "tests" / "rules").glob("*.yml")):
        trigger = yaml.safe_load(file.read_text()).get("trigger")
        if trigger:
            found[file.stem] = trigger
    return found


TRIGGERS = triggers()


def told_of(scratch: Path, script: str, **settings: str) -> set[str]:
    """The ids of all rules that matched while this ran."""
    if os.geteuid() != 0:
        pytest.skip("loads BPF: needs root")
    with private_monitor(scratch, "--listen", "", environ=environ(**settings)) as monitor:
        return {alert["rule"]["id"] for alert in perform(monitor, scratch / "all", script)}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """All triggers, one after the other."""
    scratch = tmp_path_factory.mktemp("triggers")
    script = "\n".join(f"( {trigger}\n) < /dev/null" for trigger in TRIGGERS.values())
    secret = str(scratch / "run" / "webhook.secret")
    return told_of(scratch, script, payment_addresses="203.0.113.64/26", webhook_secret_file=secret)


def test_what_no_download_tool_wrote_is_not_told_as_downloaded(tmp_path_factory):
    script = "cp /bin/true /tmp/tool; /tmp/tool; echo 'print(1)' > /tmp/x.py; python3 /tmp/x.py"
    told = told_of(tmp_path_factory.mktemp("written"), script)
    assert IDS["download_read_by_interpreter"] not in told
    assert IDS["program_downloaded_and_run"] in told  # one that is new is told of without a tool


@pytest.mark.parametrize("name", TRIGGERS)
def test_the_act_itself_is_told(told, name):
    assert IDS[name] in told
