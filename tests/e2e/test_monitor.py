# SPDX-License-Identifier: Apache-2.0
"""The whole monitor through its command line: how it starts, refuses, ends and comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from agent.private_monitor import ESTOP, Monitor, private_monitor, until
from monitor.sessions.cgroups import find_root

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_RULE = """\
title: Scratch file written
id: 4f2a8f0e-7a39-4f6e-9a52-30a1c9a7b00{number}
status: experimental
description: For tests.
author: estop
logsource:
    product: linux
    category: file_event
detection:
    selection:
        TargetFilename|endswith: {suffix}
    condition: selection
level: high
response: {response}
"""


def write_rule(directory: Path, number: int, suffix: str, response: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / f"{number}.yml"
    path.write_text(_RULE.format(number=number, suffix=suffix, response=response))
    return path


@pytest.fixture
def rules(ground: Path) -> Path:
    directory = Path(f"{ground}/rules-{time.monotonic_ns()}")
    write_rule(directory, 1, "/freeze-me", "freeze")
    write_rule(directory, 2, "/kill-me", "kill")
    return directory


@pytest.fixture
def scratch(ground: Path) -> Path:
    directory = Path(f"{ground}/daemon-{time.monotonic_ns()}")
    directory.mkdir()
    return directory


@contextmanager
def started(monitor: Monitor, name: str, code: str, *options: str):
    """A Python agent under watch; at the end nothing of it is left."""
    command = [*monitor.run_command(name, *options), sys.executable, "-c", code]
    agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield agent
    finally:
        monitor_is_there = subprocess.run(
            [ESTOP, "kill", name, "--runtime-dir", monitor.runtime_dir],
            capture_output=True,
            check=False,
        )
        if monitor_is_there.returncode and agent.poll() is None:
            agent.kill()
        agent.wait()


def estop(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ESTOP, *map(str, words)], capture_output=True, text=True, check=False, timeout=60
    )


def touch(path: Path, after: str = "import time; time.sleep(60)") -> str:
    return f"import os; open({str(path)!r}, 'w').close(); {after}"


def attached_links() -> set[str]:
    out = subprocess.run(["bpftool", "link", "list"], capture_output=True, text=True, check=True)
    return {line.split(":")[0] for line in out.stdout.splitlines() if line[:1].isdigit()}


def test_sigterm_leaves_no_program_no_empty_cgroup_and_a_frozen_session_frozen(scratch, rules):
    before = attached_links()
    root = find_root()
    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor:
        assert len(attached_links()) > len(before)
        with started(monitor, "short", "pass") as short:
            short.wait()
        agent = subprocess.Popen(
            [*monitor.run_command("held"), sys.executable, "-c", touch(scratch / "freeze-me")]
        )
        assert until(lambda: _state(monitor, "held") == "frozen", 20)
        cgroup = Path(monitor.session("held")["cgroup"])
    assert attached_links() == before
    assert [p.name for p in cgroup.parent.iterdir() if p.is_dir()] == [cgroup.name]
    assert "frozen 1" in (cgroup / "cgroup.events").read_text()

    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor:
        assert _state(monitor, "held") == "frozen"
        assert monitor.alerts("held")[0]["outcome"]["action"] == "frozen"
        assert estop("kill", "held", "--runtime-dir", monitor.runtime_dir).returncode == 0
        agent.wait(20)
        assert until(lambda: not cgroup.exists(), 10)
    assert not cgroup.parent.exists()
    assert cgroup.is_relative_to(root)


def _state(monitor: Monitor, name: str) -> str:
    found = [s for s in monitor.get("/sessions") if s["name"] == name]
    return found[0]["state"] if found else ""


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
            lambda: not Path(monitor.session(_id(monitor, "doomed"))["cgroup"]).exists(), 5
        )


def _id(monitor: Monitor, name: str) -> str:
    return next(s["id"] for s in monitor.get("/sessions") if s["name"] == name)


def test_an_observed_session_goes_on_and_the_alert_says_what_would_have_been_done(scratch, rules):
    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor:
        code = touch(scratch / "freeze-me", "") + touch(scratch / "kill-me", "raise SystemExit(5)")
        with started(monitor, "seen", code, "--observe") as agent:
            assert agent.wait(20) == 5
        session = _id(monitor, "seen")
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
                assert _state(monitor, name) == state
        assert monitor.alerts(_id(monitor, "three"))[0]["outcome"]["action"] == "disarmed"
        assert any("disarmed" in problem for problem in monitor.health()["problems"])


def _alerted(monitor: Monitor, name: str) -> bool:
    return any(s["name"] == name for s in monitor.get("/sessions")) and bool(
        monitor.alerts(_id(monitor, name))
    )


def test_a_process_that_leaves_its_cgroup_is_brought_back_and_its_session_is_frozen(monitor):
    procs = find_root() / "cgroup.procs"
    code = f"import os, time; open({str(procs)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with started(monitor, "runaway", code):
        assert until(lambda: _state(monitor, "runaway") == "frozen", 20)
        session = monitor.session("runaway")
        members = (Path(session["cgroup"]) / "cgroup.procs").read_text().split()
        assert str(session["root_pid"]) in members
        assert "frozen 1" in (Path(session["cgroup"]) / "cgroup.events").read_text()


def test_a_unit_that_starts_the_agent_again_is_stopped_once_it_is_written(monitor, scratch):
    program = scratch / "claw" / "agent.py"
    unit = scratch / ".config" / "systemd" / "user" / "claw.service"
    for path in (program, unit):
        path.parent.mkdir(parents=True)
    text = f"[Service]\nExecStart=/usr/bin/python3 {program}\n"
    program.write_text(f"import time\nopen({str(unit)!r}, 'w').write({text!r})\ntime.sleep(60)\n")
    command = [*monitor.run_command("persistent"), sys.executable, program]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as agent:
        assert until(lambda: _state(monitor, "persistent") == "frozen", 20)
        assert monitor.act("persistent", "kill", "seen")["outcome"]["action"] == "killed"
        agent.wait(10)


def test_a_supervised_process_is_refused_by_the_api_even_as_root_and_that_is_an_alert(monitor):
    code = (
        "import http.client, socket, time\n"
        "s = socket.socket(socket.AF_UNIX); s.connect("
        f"{monitor.socket!r})\n"
        "s.sendall(b'GET /api/v1/sessions HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n')\n"
        "raise SystemExit(int(s.recv(100).split()[1]) - 400)"
    )
    with started(monitor, "asker", code) as agent:
        assert agent.wait(20) == 3
    titles = [a["rule"]["title"] for a in monitor.alerts(_id(monitor, "asker"))]
    assert "A Supervised Process Asked The Monitor's API" in titles


def test_no_session_reaches_the_api_by_tcp_and_the_attempt_is_an_alert(scratch, rules):
    options = ("--listen", "127.0.0.1:0", "--rules", "rules")
    with private_monitor(scratch, *options) as monitor:
        port = next(
            c.laddr.port
            for c in psutil.net_connections("tcp4")
            if c.status == "LISTEN" and c.pid and _is_daemon(c.pid, monitor)
        )
        ways = [("127.0.0.1", 2), ("127.8.8.8", 2), ("0.0.0.0", 2), ("::ffff:127.0.0.1", 10)]
        code = (
            "import errno, socket\n"
            f"for address, family in {ways!r}:\n"
            "    with socket.socket(family) as s:\n"
            f"        assert s.connect_ex((address, {port})) == errno.EPERM, address\n"
        )
        with started(monitor, "caller", code) as agent:
            assert agent.wait(20) == 0
        session = _id(monitor, "caller")
        titles = {alert["rule"]["title"] for alert in monitor.alerts(session)}
        assert titles == {"The monitor's API asked for"}
        with socket.create_connection(("127.0.0.1", port)):
            pass  # from outside it is there


def _is_daemon(pid: int, monitor: Monitor) -> bool:
    return str(monitor.runtime_dir) in psutil.Process(pid).cmdline()


def test_attach_adopts_a_running_tree_and_says_what_it_did_with_its_cgroup(monitor):
    code = "import os, time; os.fork(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as agent:
        try:
            done = estop("attach", "--pid", agent.pid, "--name", "old", "--json",
                         "--runtime-dir", monitor.runtime_dir)  # fmt: skip
            assert done.returncode == 0, done.stderr
            session = json.loads(done.stdout)
            assert session["origin"] == "moved"
            assert until(lambda: monitor.session("old")["processes"] == 2, 5), monitor.session(
                "old"
            )
            assert estop("kill", "old", "--runtime-dir", monitor.runtime_dir).returncode == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(agent.pid, signal.SIGKILL)


# Bad input ----------------------------------------------------------------------------------------


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


def test_two_monitors_side_by_side_do_not_see_each_others_sessions(monitor, scratch, rules):
    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as other:
        with started(other, "mine", touch(scratch / "freeze-me")):
            assert until(lambda: _state(other, "mine") == "frozen", 20)
        assert "mine" not in [s["name"] for s in monitor.get("/sessions")]
    assert monitor.health()["ok"]


def test_a_full_disk_loses_no_alert_and_is_said_aloud(scratch, rules):
    state = scratch / "state"
    state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "none", state], check=True)
    try:
        options = ("--listen", "", "--rules", str(rules))
        with private_monitor(scratch, *options, state_dir=state) as monitor:
            filler = state / "filler"
            with filler.open("wb") as file:
                _fill(file.fileno())
            with started(monitor, "late", touch(scratch / "freeze-me")):
                assert until(lambda: _state(monitor, "late") == "frozen", 20)
                assert until(lambda: not monitor.health()["ok"], 10)
                assert str(state) in " ".join(monitor.health()["problems"])
                session = _id(monitor, "late")
                filler.unlink()
                assert until(lambda: bool(monitor.alerts(session)), 30)
                assert until(lambda: monitor.health()["ok"], 30), monitor.health()
    finally:
        subprocess.run(["umount", state], check=True)


def _fill(descriptor: int) -> None:
    try:
        while True:
            os.write(descriptor, b"\0" * 4096)
    except OSError:
        return
