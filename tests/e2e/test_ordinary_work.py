# SPDX-License-Identifier: Apache-2.0
"""Ordinary work under watch: nobody is stopped or reported, nothing is lost, the exit code comes."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from supervised import Supervised, smol, supervised
from work import SCRIPT_HEAD, WORK, furnish

from agent.private_monitor import Monitor, until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_JUDGED_S = 20.0


@pytest.fixture
def workplace(place: Path, user: pwd.struct_passwd) -> Path:
    """A home with what the scripts start from; named as its session."""
    home = place / "home"
    furnish(home)
    for directory, _, files in os.walk(home):
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            os.chown(path, user.pw_uid, user.pw_gid)
    return place


@pytest.mark.parametrize("name", WORK)
def test_ordinary_work_ends_well_without_an_alert_or_a_lost_event(monitor, workplace, user, name):
    work = WORK[name]
    if shutil.which(work.needs) is None:
        pytest.skip(f"{work.needs} is not installed")
    script = workplace / "work.sh"
    script.write_text(f"{SCRIPT_HEAD}{work.script}touch ~/all-done\n")
    # Somebody else's process is given their home; this work must not touch it.
    command = ["/usr/bin/env", f"HOME={workplace / 'home'}", "/bin/sh", str(script)]
    with supervised(monitor, workplace, user, command, []) as agent:
        assert agent.await_end() == 0, agent.output
        assert (workplace / "home" / "all-done").exists(), agent.output
        assert reported(agent) == []
        assert_all_was_seen(monitor, agent)


def test_a_real_agent_that_does_ordinary_work_is_left_alone(monitor, workplace, user):
    command = SCRIPT_HEAD + WORK["git"].script + WORK["looking"].script + "touch ~/all-done\n"
    turns = [
        {"tool": "shell", "arguments": {"command": command}},
        {"tool": "final_answer", "arguments": {"answer": "done"}},
    ]
    with supervised(monitor, workplace, user, smol(workplace, "tools"), turns) as agent:
        assert agent.await_end() == 0, agent.output
        assert (workplace / "home" / "all-done").exists(), agent.output
        assert reported(agent) == []
        assert_all_was_seen(monitor, agent)


def reported(agent: Supervised) -> list[tuple[str, dict[str, Any]]]:
    """Alerts that a person would be shown: what is only logged is not among them."""
    # The monitor removes the cgroup once it has judged the last event.
    assert until(lambda: not Path(agent.session["cgroup"]).exists(), _JUDGED_S)
    alerts = agent.monitor.alerts(agent.name)
    return [(a["rule"]["title"], a["event"]) for a in alerts if a["response"] != "log"]


def assert_all_was_seen(monitor: Monitor, agent: Supervised) -> None:
    session = agent.session
    assert session["state"] == "exited"
    assert session["events"] > 0
    health = monitor.health()
    assert set(health["lost"].values()) <= {0}
    assert health["problems"] == []


@pytest.mark.parametrize("code", [0, 7])
def test_the_exit_code_and_the_output_of_a_command_come_through(monitor, place, code):
    done = subprocess.run(
        [*monitor.run_command(place.name), "sh", "-c", f"cat; exit {code}"],
        input="said\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "said\n"), done.stderr


def test_a_command_starts_in_the_cgroup_of_its_session(monitor, place):
    done = subprocess.run(
        [*monitor.run_command(place.name), "cat", "/proc/self/cgroup"],
        capture_output=True,
        text=True,
        check=True,
    )
    own = next(line for line in done.stdout.splitlines() if line.startswith("0::"))
    assert monitor.session(place.name)["cgroup"].endswith(own.removeprefix("0::"))
