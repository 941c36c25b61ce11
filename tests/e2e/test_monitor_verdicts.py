# SPDX-License-Identifier: Apache-2.0
"""What a rule that matches comes to: a stop, an alert of what would have been done, or a rule disarmed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from oneliner import session_id, session_state, started, touch, write_rule

from agent.private_monitor import Monitor, private_monitor, until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


def test_a_rule_may_kill_and_nothing_is_left(scratch, rules):
    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor:
        code = "import os; os.fork(); os.fork(); " + touch(scratch / "kill-me")
        with started(monitor, "doomed", code) as agent:
            assert agent.wait(20) == -9
        alert = monitor.alerts("doomed")[-1] if monitor.alerts("doomed") else {}
        assert alert["outcome"]["action"] == "killed"
        steps = alert["timings_ns"]
        order = ["received", "matched", "cut", "frozen", "evidence", "killed", "empty"]
        assert sorted(order, key=steps.__getitem__) == order
        assert until(
            lambda: not Path(monitor.session(session_id(monitor, "doomed"))["cgroup"]).exists(), 5
        )


def test_no_socket_of_an_agent_keeps_it_from_being_killed_or_a_freeze_from_being_told(
    scratch, rules
):
    """The name of the socket breaks the list of the kernel in which it stands, for whoever reads it."""
    bind = "import socket; u = socket.socket(socket.AF_UNIX); u.bind('\\0a\\nb c'); "
    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor:
        with started(monitor, "doomed", bind + touch(scratch / "kill-me")) as agent:
            assert agent.wait(20) == -9
        doomed = session_id(monitor, "doomed")
        assert until(lambda: monitor.alerts(doomed)[0]["outcome"]["action"] == "killed", 5)
        told = monitor.get(f"/alerts/{monitor.alerts(doomed)[0]['id']}")["evidence"]
        assert "error" in told["processes"][0]["sockets"][-1]
        with started(monitor, "bound", bind + touch(scratch / "bound")):
            assert until((scratch / "bound").exists, 20)
            assert monitor.act("bound", "freeze", "let me look")["outcome"]["action"] == "frozen"
            incidents = monitor.get("/incidents?session=bound")["items"]
            assert [incident["state"] for incident in incidents] == ["open"]


def test_an_observed_session_goes_on_and_the_alert_says_what_would_have_been_done(scratch, rules):
    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor:
        code = touch(scratch / "freeze-me", "") + touch(scratch / "kill-me", "raise SystemExit(5)")
        with started(monitor, "seen", code, "--observe") as agent:
            assert agent.wait(20) == 5
        session = session_id(monitor, "seen")
        assert until(lambda: len(monitor.alerts(session)) == 2, 5)
        actions = {alert["outcome"]["action"] for alert in monitor.alerts(session)}
        assert actions == {"would_freeze", "would_kill"}


def test_who_is_gone_before_it_could_be_stopped_is_not_forgiven(scratch, rules):
    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor:
        for number in range(10):
            name = f"quick-{number}"
            with started(monitor, name, touch(scratch / "freeze-me", "os._exit(0)")):
                assert until(lambda name=name: _alerted(monitor, name), 10)


def test_a_rule_that_stopped_too_many_sessions_only_alerts_from_then_on(scratch, rules):
    environ = {**os.environ, "ESTOP_DISARM_STOPS": "2"}
    options = ("--listen", "", "--rules", str(rules))
    with private_monitor(scratch, *options, environ=environ) as monitor:
        for name, state in (("one", "frozen"), ("two", "frozen"), ("three", "running")):
            with started(monitor, name, touch(scratch / "freeze-me")):
                assert until(lambda name=name: _alerted(monitor, name), 20)
                assert session_state(monitor, name) == state
        assert monitor.alerts(session_id(monitor, "three"))[0]["outcome"]["action"] == "disarmed"
        assert any("disarmed" in problem for problem in monitor.health()["problems"])


def _alerted(monitor: Monitor, name: str) -> bool:
    return any(s["name"] == name for s in monitor.get("/sessions")) and bool(
        monitor.alerts(session_id(monitor, name))
    )


def test_a_unit_that_starts_the_agent_again_is_stopped_once_it_is_written(monitor, scratch):
    program = scratch / "claw" / "agent.py"
    unit = scratch / ".config" / "systemd" / "user" / "claw.service"
    for path in (program, unit):
        path.parent.mkdir(parents=True)
    text = f"[Service]\nExecStart=/usr/bin/python3 {program}\n"
    program.write_text(f"import time\nopen({str(unit)!r}, 'w').write({text!r})\ntime.sleep(60)\n")
    command = [*monitor.run_command("persistent"), sys.executable, program]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as agent:
        assert until(lambda: session_state(monitor, "persistent") == "frozen", 20)
        assert monitor.act("persistent", "kill", "seen")["outcome"]["action"] == "killed"
        agent.wait(10)


_NEW_NAMESPACE = 0x20000  # CLONE_NEWNS
_NOWHERE = [f"/nowhere/{directory}/{name}" for directory in range(30) for name in range(30)]


def test_a_mount_namespace_for_each_process_keeps_no_verdict_waiting(scratch, ground):
    guarded = scratch / "guarded"
    guarded.touch()
    rules = Path(f"{ground}/rules-{time.monotonic_ns()}")
    exact = write_rule(rules, 1, "/guarded", "freeze")
    # As many as the library names: each is looked for in each new view.
    paths = "".join(f"\n            - {path}" for path in (guarded, *_NOWHERE))
    exact.write_text(exact.read_text().replace("|endswith: /guarded", f":{paths}"))
    code = (
        "import ctypes, os, time\n"
        "end = time.time() + 4\n"
        "living = 0\n"
        "while time.time() < end:\n"
        "    if not os.fork():\n"
        f"        ctypes.CDLL(None).unshare({_NEW_NAMESPACE})\n"
        "        open('/etc/hostname').close()\n"
        "        time.sleep(0.5)\n"
        "        os._exit(0)\n"
        "    living += 1\n"
        "    if living > 200: os.wait()\n"
        f"open({str(guarded)!r}, 'w').close()\n"  # which waits until all that went before is judged
        "time.sleep(60)\n"
    )
    with (
        private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor,
        started(monitor, "churn", code),
    ):
        assert until(lambda: session_state(monitor, "churn") == "frozen", 60)
        told = [(a["rule"]["id"], a["timings_ns"]) for a in monitor.alerts("churn")]
        # A slow machine may tell of a flood as well, which is no verdict.
        assert "estop-verdict-late" not in dict(told), told
        matched_ns = [times["matched"] for _, times in told if "matched" in times]
        assert matched_ns, told
        assert matched_ns[0] < 300_000_000, told
        assert monitor.health()["ok"], monitor.health()["problems"]
