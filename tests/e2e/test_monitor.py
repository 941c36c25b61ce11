# SPDX-License-Identifier: Apache-2.0
"""The whole monitor through its command line: how it starts, refuses, ends and comes back."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from agent.private_monitor import ESTOP, Monitor, private_monitor, until
from monitor.sessions.cgroups import find_root

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_NEW_NAMESPACE = 0x20000  # CLONE_NEWNS
_NOWHERE = [f"/nowhere/{directory}/{name}" for directory in range(30) for name in range(30)]
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
def scratch(ground: Path) -> Iterator[Path]:
    directory = Path(f"{ground}/daemon-{time.monotonic_ns()}")
    directory.mkdir()
    yield directory
    if (directory / "run" / "bpf").is_mount():  # a test that failed in between
        subprocess.run(["umount", directory / "run" / "bpf"], check=True)


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


def pinned_links(monitor: Monitor) -> set[int]:
    """Ids of the links that are pinned for this monitor; others may run beside it."""
    pins = (monitor.runtime_dir / "bpf").glob("*_*/links/*")
    return {_bpftool("show", "pinned", str(pin))["id"] for pin in pins}


def gone(links: set[int]) -> bool:
    """Does the kernel know none of them any more?"""
    return not links & {link["id"] for link in _bpftool("list")}


def _bpftool(*words: str):
    command = ["bpftool", "-j", "link", *words]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def test_sigterm_without_living_sessions_leaves_no_program_and_no_cgroup(scratch, rules):
    with private_monitor(scratch, "--listen", "", "--rules", str(rules), keep=True) as monitor:
        links = pinned_links(monitor)
        assert len(links) == len(monitor.health()["programs"])
        with started(monitor, "short", "pass") as short:
            short.wait()
        cgroup = Path(monitor.session(_id(monitor, "short"))["cgroup"])
    assert until(lambda: gone(links), 5)
    assert not cgroup.parent.exists()
    assert not (monitor.runtime_dir / "bpf").exists()


def test_sigterm_leaves_a_frozen_session_frozen_and_cut_and_the_next_monitor_has_it(scratch, rules):
    root = find_root()
    options = ("--listen", "", "--rules", str(rules))
    with private_monitor(scratch, *options, keep=True) as monitor:
        agent = subprocess.Popen(
            [*monitor.run_command("held"), sys.executable, "-c", touch(scratch / "freeze-me")]
        )
        assert until(lambda: _state(monitor, "held") == "frozen", 20)
        cgroup = Path(monitor.session("held")["cgroup"])
        links = pinned_links(monitor)
    assert pinned_links(monitor) == links
    assert "programs.left" in monitor.log.read_text()
    assert "frozen 1" in (cgroup / "cgroup.events").read_text()

    with private_monitor(scratch, *options) as monitor:
        assert pinned_links(monitor) == links
        assert _state(monitor, "held") == "frozen"
        assert monitor.alerts("held")[0]["outcome"]["action"] == "frozen"
        assert estop("kill", "held", "--runtime-dir", monitor.runtime_dir).returncode == 0
        agent.wait(20)
        assert until(lambda: not cgroup.exists(), 10)
    assert until(lambda: gone(links), 5)
    assert not cgroup.parent.exists()
    assert cgroup.is_relative_to(root)


def _kill_hard(monitor: Monitor, how: signal.Signals = signal.SIGKILL) -> None:
    os.kill(monitor.pid, how)
    assert until(lambda: psutil.Process(monitor.pid).status() == psutil.STATUS_ZOMBIE, 10)


def _told(monitor: Monitor, name: str) -> list[str]:
    fields = [a["event"]["fields"] for a in monitor.alerts(name)]
    return sorted(f["TargetFilename"].rpartition("/")[2] for f in fields)


def test_a_monitor_that_crashes_says_where(scratch):
    with private_monitor(scratch) as monitor:
        # A crash of its own is in the thread that runs. From outside it comes to whichever, and what
        # another one is at just then, answering us, cannot be told by it.
        time.sleep(1)
        _kill_hard(monitor, signal.SIGSEGV)
        log = (scratch / "monitor.log").read_text()
    assert "Fatal Python error: Segmentation fault" in log
    assert "pipeline.py" in log


@pytest.mark.parametrize("which", ["monitor", "gatekeeper"])
def test_no_page_of_who_stops_an_agent_can_be_taken_away(monitor, which):
    """An agent that fills the memory would make the next stop wait for the disk."""
    watchers = [psutil.Process(monitor.pid), *psutil.Process(monitor.pid).children()]
    if which == "gatekeeper" and len(watchers) == 1:
        pytest.skip("the kernel refuses opens by itself here: nobody has to be asked")
    found = Path(f"/proc/{watchers[which == 'gatekeeper'].pid}/smaps_rollup").read_text()
    kib = {words[0]: int(words[1]) for words in map(str.split, found.splitlines()[1:])}
    assert kib["Locked:"] > 0.8 * kib["Pss:"]  # the rest are the rings, which are the kernel's


def test_what_happens_while_no_monitor_runs_is_told_once_by_the_next_one(scratch, rules):
    write_rule(rules, 3, "/tell-1", "alert")
    write_rule(rules, 4, "/tell-2", "alert")
    options = ("--listen", "", "--rules", str(rules))
    # For each file: wait for its `.go`, make it, and say so.
    code = (
        "import pathlib, time\n"
        f"for name in ({str(scratch / 'tell-1')!r}, {str(scratch / 'tell-2')!r}):\n"
        "    while not pathlib.Path(name + '.go').exists(): time.sleep(0.01)\n"
        "    pathlib.Path(name).touch()\n"
        "    pathlib.Path(name + '.done').touch()\n"
        "time.sleep(60)\n"
    )

    def tell(name: str) -> None:
        (scratch / f"{name}.go").touch()
        assert until((scratch / f"{name}.done").exists, 10)

    with private_monitor(scratch, *options, keep=True) as monitor:
        agent = subprocess.Popen([*monitor.run_command("talker"), sys.executable, "-c", code])
        tell("tell-1")
        assert until(lambda: _told(monitor, "talker") == ["tell-1"], 20)
        _kill_hard(monitor)
    tell("tell-2")
    both = ["tell-1", "tell-2"]
    for last in (False, True):
        with private_monitor(scratch, *options, keep=True) as monitor:
            assert until(lambda m=monitor: _told(m, "talker") == both, 20)
            time.sleep(0.5)
            assert _told(monitor, "talker") == both
            assert monitor.session("talker")["state"] == "running"
            assert monitor.health()["ok"], monitor.health()["problems"]
            if last:
                monitor.act("talker", "kill", "seen")
                agent.wait(20)
            else:
                _kill_hard(monitor)


def test_how_an_agent_ended_is_told(scratch, rules):
    codes = {"well": "exit 0", "badly": "exit 3", "by-a-signal": "kill -9 $$"}
    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor:
        for name, code in codes.items():
            subprocess.run([*monitor.run_command(name), "/bin/sh", "-c", code], check=False)
        told = {}
        for name in codes:
            assert until(lambda name=name: monitor.session(name)["exit_code"] is not None, 20)
            told[name] = monitor.session(name)["exit_code"]
    assert told == {"well": 0, "badly": 3, "by-a-signal": 128 + signal.SIGKILL}


def test_who_acted_and_ended_while_no_monitor_ran_is_not_forgiven(scratch, rules):
    options = ("--listen", "", "--rules", str(rules))
    code = (
        "import pathlib, time\n"
        f"pathlib.Path({str(scratch / 'here')!r}).touch()\n"
        f"while not pathlib.Path({str(scratch / 'go')!r}).exists(): time.sleep(0.01)\n"
        f"pathlib.Path({str(scratch / 'freeze-me')!r}).touch()\n"
    )
    with private_monitor(scratch, *options, keep=True) as monitor:
        agent = subprocess.Popen([*monitor.run_command("quick"), sys.executable, "-c", code])
        assert until((scratch / "here").exists, 20)
        session = _id(monitor, "quick")
        _kill_hard(monitor)
    (scratch / "go").touch()
    agent.wait(20)
    with private_monitor(scratch, *options) as monitor:
        assert until(lambda: len(monitor.alerts(session)) == 1, 20)
        assert until(lambda: _state(monitor, "quick") == "exited", 20)


def test_a_monitor_that_was_moved_into_a_session_survives_what_it_may_not_stop(scratch, ground):
    rules = Path(f"{ground}/rules-{time.monotonic_ns()}")
    certain = write_rule(rules, 1, "/freeze-me", "freeze")
    certain.write_text(certain.read_text().replace("endswith:", "endswith|cased:"))
    code = (
        "import pathlib, time\n"
        f"while not pathlib.Path({str(scratch / 'go')!r}).exists(): time.sleep(0.01)\n"
        f"{touch(scratch / 'freeze-me')}"
    )
    with (
        private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor,
        started(monitor, "mover", code),
    ):
        line = Path(f"/proc/{monitor.pid}/cgroup").read_text().splitlines()[-1]
        home = find_root() / line.removeprefix("0::/")
        assert until(lambda: _state(monitor, "mover") == "running", 20)
        try:
            session = Path(monitor.session("mover")["cgroup"])
            (session / "cgroup.procs").write_text(str(monitor.pid))
            (scratch / "go").touch()
            assert until(lambda: "refused" in _actions(monitor, "mover"), 20)
        finally:
            (home / "cgroup.procs").write_text(str(monitor.pid))
        assert monitor.health()["ok"], monitor.health()["problems"]


def _actions(monitor: Monitor, session: str) -> list[str]:
    return [alert["outcome"]["action"] for alert in monitor.alerts(session)]


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
        assert until(lambda: _state(monitor, "churn") == "frozen", 60)
        matched_ns = [a["timings_ns"]["matched"] for a in monitor.alerts("churn")]
        assert matched_ns[0] < 300_000_000, matched_ns
        assert monitor.health()["ok"], monitor.health()["problems"]


_LABEL = """\
title: Secret read
id: 4f2a8f0e-7a39-4f6e-9a52-30a1c9a7b010
status: experimental
description: For tests.
author: estop
tags:
    - estop.taint.credential
logsource:
    product: linux
    category: file_access
detection:
    selection:
        TargetFilename|endswith: /secret
    condition: selection
level: low
response: log
---
title: Secret on its way
id: 4f2a8f0e-7a39-4f6e-9a52-30a1c9a7b011
status: experimental
description: For tests.
author: estop
logsource:
    product: linux
    category: network_connection
detection:
    selection:
        Tainted: credential
    condition: selection
level: high
response: freeze
---
title: Own file read
id: 4f2a8f0e-7a39-4f6e-9a52-30a1c9a7b012
status: experimental
description: For tests.
author: estop
logsource:
    product: linux
    category: file_access
detection:
    selection:
        TargetFilename|endswith: /own
        WrittenBySession: true
    condition: selection
level: low
response: alert
"""


def _titles(monitor: Monitor, session: str) -> set[str]:
    """Of the rules that have told of it."""
    return {alert["rule"]["title"] for alert in monitor.alerts(session)}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_session_learned_and_wrote_before_a_restart_counts_after_it(scratch, ground, how):
    rules = Path(f"{ground}/rules-{time.monotonic_ns()}")
    rules.mkdir()
    for number, rule in enumerate(_LABEL.split("---\n")):
        (rules / f"{number}.yml").write_text(rule)
    (scratch / "secret").write_text("it is 42")
    options = ("--listen", "", "--rules", str(rules))
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = (
            "import os, pathlib, socket, time\n"
            f"here = pathlib.Path({str(scratch)!r})\n"
            "(here / 'own').write_text('mine')\n"
            "(here / 'secret').read_text()\n"
            "if os.fork(): os.wait()\n"  # the label flows on to the child
            "(here / 'read').touch()\n"
            "while not (here / 'go').exists(): time.sleep(0.01)\n"
            "(here / 'own').read_text()\n"
            f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))\n"
        )
        with private_monitor(scratch, *options, keep=True) as monitor:
            agent = subprocess.Popen([*monitor.run_command("heir"), sys.executable, "-c", code])
            assert until((scratch / "read").exists, 20)
            time.sleep(1.0)  # what flows on is recorded twice a second
            if how is signal.SIGKILL:
                _kill_hard(monitor)
        with private_monitor(scratch, *options) as monitor:
            (scratch / "go").touch()
            assert until(lambda: _state(monitor, "heir") == "frozen", 20)
            assert until(lambda: "Secret on its way" in _titles(monitor, "heir"), 10)
            if how is signal.SIGTERM:  # else of what was done the last ten seconds may be missing
                assert "Own file read" in _titles(monitor, "heir")
            monitor.act("heir", "kill", "seen")
            agent.wait(20)


def test_a_stopped_session_that_is_thawed_while_no_monitor_runs_stays_held_and_cut(scratch, rules):
    options = ("--listen", "", "--rules", str(rules))
    answers = scratch / "answers"
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = (
            "import socket, time\n"
            f"open({str(scratch / 'freeze-me')!r}, 'w').close()\n"
            "while True:\n"
            "    with socket.socket() as s:\n"
            f"        code = s.connect_ex(('127.0.0.1', {server.getsockname()[1]}))\n"
            f"    with open({str(answers)!r}, 'a') as f: f.write(f'{{code}}\\n')\n"
            "    time.sleep(0.01)\n"
        )
        with private_monitor(scratch, *options, keep=True) as monitor:
            agent = subprocess.Popen([*monitor.run_command("cut"), sys.executable, "-c", code])
            assert until(lambda: _state(monitor, "cut") == "frozen", 20)
            cgroup = Path(monitor.session("cut")["cgroup"])
            pid = monitor.session("cut")["root_pid"]
            _kill_hard(monitor)
        answers.touch()  # it may not have come that far
        before = answers.read_text()
        # Whoever thaws it behind the monitor's back lets it come no further than its next call.
        (cgroup / "cgroup.freeze").write_text("0")
        assert until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 10)
        more = answers.read_text().removeprefix(before)
        assert set(more.split()) <= {str(errno.EPERM)}
        with private_monitor(scratch, *options) as monitor:
            assert _state(monitor, "cut") == "frozen"
            assert "frozen 1" in (cgroup / "cgroup.events").read_text()
            monitor.act("cut", "resume", "seen")
            assert until(lambda: answers.read_text().endswith("0\n"), 10)
            monitor.act("cut", "kill", "seen")
            agent.wait(20)


def test_unload_is_refused_while_a_monitor_runs_and_afterwards_removes_what_it_left(scratch, rules):
    options = ("--listen", "", "--rules", str(rules))
    with private_monitor(scratch, *options, keep=True) as monitor:
        agent = subprocess.Popen([*monitor.run_command("left"), "sleep", "60"])
        assert until(lambda: _state(monitor, "left") == "running", 20)
        refused = estop("unload", "--runtime-dir", monitor.runtime_dir)
        assert refused.returncode == 1
        assert "another estop daemon" in refused.stderr
        cgroup = Path(monitor.session("left")["cgroup"])
    links = pinned_links(monitor)
    assert links
    done = estop("unload", "--runtime-dir", monitor.runtime_dir)
    assert done.returncode == 0, done.stderr
    assert until(lambda: gone(links), 5)
    (cgroup / "cgroup.kill").write_text("1")
    agent.wait(20)
    assert until(lambda: not (cgroup / "cgroup.procs").read_text(), 5)
    cgroup.rmdir()
    cgroup.parent.rmdir()


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


def test_rules_are_exchanged_while_sessions_run_and_bad_ones_change_nothing(scratch, rules):
    frozen = "import os, sys; [open(line.strip(), 'w').close() for line in sys.stdin]"
    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor:
        command = [*monitor.run_command("long"), sys.executable, "-c", frozen]
        where = ("--runtime-dir", monitor.runtime_dir)
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as agent:
            write_rule(rules, 3, "/new-rule", "freeze")
            (rules / "1.yml").unlink()
            done = estop("rules", "reload", "--json", *where)
            assert done.returncode == 0, done.stderr
            changes = json.loads(done.stdout)
            assert [len(changes[how]) for how in ("added", "removed", "changed")] == [1, 1, 0]
            assert {rule["id"][-1] for rule in monitor.get("/rules")} == {"2", "3"}

            (rules / "4.yml").write_text("title: no rule\nresponse: freeze\n")
            done = estop("rules", "reload", *where)
            assert done.returncode == 1
            assert "4.yml" in done.stderr
            assert {rule["id"][-1] for rule in monitor.get("/rules")} == {"2", "3"}

            print(scratch / "freeze-me", file=agent.stdin, flush=True)  # its rule is gone
            print(scratch / "new-rule", file=agent.stdin, flush=True)
            assert until(lambda: monitor.session("long")["state"] == "frozen", 10)
            assert (scratch / "freeze-me").exists()
            assert until(lambda: monitor.alerts("long"), 10)
            assert [alert["rule"]["id"][-1] for alert in monitor.alerts("long")] == ["3"]
            monitor.act("long", "kill", "the test is over")
            agent.stdin.close()


def test_a_hangup_has_the_rules_read_again(scratch, rules):
    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor:
        write_rule(rules, 3, "/new-rule", "freeze")
        os.kill(monitor.pid, signal.SIGHUP)
        assert until(lambda: len(monitor.get("/rules")) == 3, 10)
        (rules / "3.yml").write_text("title: no rule\nresponse: freeze\n")
        os.kill(monitor.pid, signal.SIGHUP)
        assert until(lambda: "rules.kept" in monitor.log.read_text(), 10)
        assert len(monitor.get("/rules")) == 3
