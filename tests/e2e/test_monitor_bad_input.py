# SPDX-License-Identifier: Apache-2.0
"""What cannot be done is refused with the name of what is wrong."""

from __future__ import annotations

import os

import pytest
from oneliner import estop, write_rule

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


def test_a_second_daemon_on_the_same_state_directory_names_the_first(monitor, ground, scratch):
    done = estop("daemon", "--state-dir", ground / "state", "--runtime-dir", scratch / "run")
    assert done.returncode == 1
    assert str(ground / "state") in done.stderr
    assert "pid" in done.stderr


def test_a_bad_rule_stops_the_start_with_its_file_and_line(scratch, rules):
    bad = write_rule(rules, 3, "/x", "explode")
    done = estop("daemon", "--state-dir", scratch / "s", "--runtime-dir", scratch / "r",
                 "--rules", rules)  # fmt: skip
    assert done.returncode == 1
    assert f"{bad}:14: unknown response `explode`" in done.stderr
    assert not list((scratch / "s").glob("*")) if (scratch / "s").exists() else True


def test_an_unreadable_rules_directory_is_named(scratch):
    done = estop("daemon", "--state-dir", scratch / "s", "--runtime-dir", scratch / "r",
                 "--rules", scratch / "missing")  # fmt: skip
    assert done.returncode == 1
    assert str(scratch / "missing") in done.stderr


def test_a_session_that_does_not_exist_is_named(monitor):
    for verb in ("freeze", "resume", "kill"):
        done = estop(verb, "nobody", "--runtime-dir", monitor.runtime_dir)
        assert done.returncode == 1
        assert "nobody" in done.stderr


def test_a_pid_that_does_not_exist_is_named(monitor):
    done = estop("attach", "--pid", 2**22 + 1, "--runtime-dir", monitor.runtime_dir)
    assert done.returncode == 1
    assert str(2**22 + 1) in done.stderr


def test_init_and_the_monitor_are_never_adopted(monitor):
    for pid in (1, os.getpid()):
        done = estop("attach", "--pid", pid, "--runtime-dir", monitor.runtime_dir)
        assert done.returncode in {1, 2}, done.stdout


def test_without_a_monitor_the_agent_does_not_start(scratch):
    proof = scratch / "ran"
    done = estop("run", "--runtime-dir", scratch, "--name", "x", "--", "touch", proof)
    assert done.returncode == 3
    assert str(scratch) in done.stderr
    assert not proof.exists()
