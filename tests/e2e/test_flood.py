# SPDX-License-Identifier: Apache-2.0
"""More than anybody can look at: it is told of who made it, skips no rule, and `fail_mode` decides."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from environment import environ

from agent.private_monitor import Monitor, private_monitor, until
from tests.bench.figures import compiled

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_FLOOD = Path(__file__).parents[1] / "kernel" / "programs" / "flood.c"
_OPENS_FOR_EVER = Path(__file__).parents[1] / "bench" / "programs" / "flood.c"
_QUIET = [sys.executable, "-c", "import time; print('at it', flush=True); time.sleep(600)"]
_RULE = """\
title: Scratch file written
id: 4f2a8f0e-7a39-4f6e-9a52-30a1c9a7b001
status: experimental
description: For tests.
author: estop
logsource: {product: linux, category: file_event}
detection: {selection: {TargetFilename|endswith|cased: /freeze-me}, condition: selection}
level: high
response: freeze
"""


@pytest.fixture
def scratch(ground: Path) -> Path:
    directory = Path(f"{ground}/flood-{time.monotonic_ns()}")
    directory.mkdir()
    (directory / "rules").mkdir()
    (directory / "rules" / "one.yml").write_text(_RULE)
    return directory


def _started(stack: ExitStack, monitor: Monitor, name: str, words: list[str]) -> None:
    """An agent of that name, until the end of the test."""
    command = [*monitor.run_command(name), *words]
    agent = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
    stack.callback(agent.wait, 30)
    stack.callback(monitor.act, name, "kill", "the test is over")
    assert agent.stdout is not None
    agent.stdout.readline()


def _monitor(scratch: Path, **settings: str) -> AbstractContextManager[Monitor]:
    options = ("--listen", "", "--rules", str(scratch / "rules"))
    return private_monitor(scratch, *options, environ=environ(**settings))


def _rules(monitor: Monitor, session: str) -> set[str]:
    return {alert["rule"]["id"] for alert in monitor.alerts(session)}


def _floods(monitor: Monitor, session: str) -> list[dict]:
    return [a for a in monitor.alerts(session) if a["rule"]["id"] == "estop-event-flood"]


def _not_looked_at(monitor: Monitor, session: str) -> int:
    return sum(a["event"]["fields"]["NotLookedAt"] for a in _floods(monitor, session))


def _held_back_ms(monitor: Monitor, session: str) -> int:
    return sum(a["event"]["fields"]["HeldBackMs"] for a in _floods(monitor, session))


def _flooding(scratch: Path, act: str, then: str = ":") -> list[str]:
    """A shell that says when it begins, does much of it, and then what it is told."""
    program = compiled(scratch, _FLOOD)
    (scratch / "many").mkdir()
    flood = f"{program} {act} {scratch}/many 60000"
    return ["sh", "-c", f"echo begins; {flood}; {then}; sleep 600"]


def test_a_flood_is_told_of_who_made_it_and_skips_no_rule(scratch):
    with _monitor(scratch, opens_per_s="1000") as monitor, ExitStack() as stack:
        _started(stack, monitor, "quiet", _QUIET)
        then = f": > {scratch}/freeze-me"
        _started(stack, monitor, "loud", _flooding(scratch, "opens", then))
        assert until(lambda: monitor.session("loud")["state"] == "frozen", 60)
        over_budget = monitor.health()["lost"]["budget"]
        assert over_budget > 1000
        assert until(lambda: _not_looked_at(monitor, "loud") == over_budget, 30)
        assert len(_floods(monitor, "loud")) <= 2  # when it began, and what came after that
        assert _rules(monitor, "quiet") == set()
        assert monitor.session("quiet")["state"] == "running"


def test_who_opens_more_than_can_be_looked_at_is_held_back_and_no_rule_is_skipped(scratch):
    """Not one that the kernel could know by itself: it is found among all that was opened."""
    rule = scratch / "rules" / "one.yml"
    rule.write_text(_RULE.replace("endswith|cased: /freeze-me", "contains: freeze-me"))
    program = compiled(scratch, _OPENS_FOR_EVER)
    (scratch / "many").mkdir()
    flood = (
        f"{program} {scratch}/many 60000 > {scratch}/says & "
        f"until grep -q at {scratch}/says; do sleep 0.1; done; sleep 0.3; "
        f": > {scratch}/many/freeze-me-too; sleep 600"
    )
    with _monitor(scratch) as monitor, ExitStack() as stack:
        _started(stack, monitor, "quiet", _QUIET)
        _started(stack, monitor, "loud", ["sh", "-c", f"echo begins; {flood}"])
        assert until(lambda: monitor.session("loud")["state"] == "frozen", 60)
        told = [a["rule"]["title"] for a in monitor.alerts("loud")]
        assert "Scratch file written" in told
        assert not any(monitor.health()["lost"].values())
        assert until(lambda: _held_back_ms(monitor, "loud") > 100, 30)
        assert monitor.session("quiet")["state"] == "running"
        assert _rules(monitor, "quiet") == set()


def test_who_was_held_back_goes_on_and_comes_to_its_end(scratch):
    with _monitor(scratch) as monitor, ExitStack() as stack:
        # Those that are there already open faster than a disk makes new ones.
        then = f"{compiled(scratch, _FLOOD)} opens {scratch}/many 60000; : > {scratch}/done"
        _started(stack, monitor, "loud", _flooding(scratch, "opens", then))
        assert until((scratch / "done").exists, 60)
        assert until(lambda: bool(_floods(monitor, "loud")), 10)
        assert monitor.session("loud")["state"] == "running"
        assert not any(monitor.health()["lost"].values())


def test_who_is_held_back_when_the_monitor_ends_is_not_left_frozen(scratch):
    (scratch / "many").mkdir()
    program, options = compiled(scratch, _OPENS_FOR_EVER), ("--listen", "")
    with private_monitor(scratch, *options, environ=environ(), keep=True) as monitor:
        command = [*monitor.run_command("loud"), program, scratch / "many", "60000"]
        agent = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert agent.stdout is not None
        agent.stdout.readline()
        freeze = Path(monitor.session("loud")["cgroup"]) / "cgroup.freeze"
        held_back = until(lambda: freeze.read_text() == "1\n", 30, 0.001)
    left = freeze.read_text()
    with private_monitor(scratch, *options, environ=environ()) as monitor:
        state = monitor.session("loud")["state"]
        monitor.act("loud", "kill", "the test is over")
        agent.communicate(timeout=30)
    assert (held_back, left, state) == (True, "0\n", "running")


@pytest.mark.parametrize(("fail_mode", "state"), [("closed", "frozen"), ("open", "running")])
def test_a_loss_above_the_threshold_is_decided_by_fail_mode(scratch, fail_mode, state):
    settings = {"events_ring_mib": "1", "blind_losses": "100", "fail_mode": fail_mode}
    with _monitor(scratch, **settings) as monitor, ExitStack() as stack:
        _started(stack, monitor, "loud", _flooding(scratch, "files"))
        # Who reads is read from; only who cannot read loses something.
        os.kill(monitor.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(monitor.pid, signal.SIGCONT)
        told = "estop-blind" if fail_mode == "closed" else "estop-events-lost"
        assert until(lambda: told in _rules(monitor, "loud"), 60)
        assert monitor.session("loud")["state"] == state
        alert = next(a for a in monitor.alerts("loud") if a["rule"]["id"] == told)
        assert alert["event"]["fields"]["Lost"]["name"] >= 100
