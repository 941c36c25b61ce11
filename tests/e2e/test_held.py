# SPDX-License-Identifier: Apache-2.0
"""What the kernel holds by itself: while the verdict is out, while no monitor lives, and unnoticed."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from oneliner import estop, kill_hard

from agent.private_monitor import private_monitor, until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

# `certain`: the kernel may decide by itself. `asks`: user space has to be asked, and forgives some.
_RULES = """\
title: Certain
id: 4f2a8f0e-7a39-4f6e-9a52-30a1c9a7b101
status: experimental
description: For tests.
author: estop
logsource:
    product: linux
    category: file_event
detection:
    selection:
        TargetFilename|endswith|cased: /certain
    condition: selection
level: high
response: freeze
---
title: Asks
id: 4f2a8f0e-7a39-4f6e-9a52-30a1c9a7b102
status: experimental
description: For tests.
author: estop
logsource:
    product: linux
    category: file_event
detection:
    selection:
        TargetFilename|endswith|cased: /asks
    forgiven:
        TargetFilename|contains: forgiven
    condition: selection and not forgiven
level: high
response: freeze
"""

# The monitor, with an engine that no fact of the rules' own files gets through.
_BROKEN_MONITOR = """\
#!{python}
from monitor.cli.main import main
from monitor.detection.engine import Engine

whole = Engine.matches

def matches(engine, facts):
    if any("/certain" in fact.fields.get("TargetFilename", "") for fact in facts):
        raise ValueError("a fault of ours")
    return whole(engine, facts)

Engine.matches = matches
main()
"""

# For each name on standard input: open it to be written, and say so.
_WRITER = """\
import os, sys
print("ready", flush=True)
for line in sys.stdin:
    try:
        os.close(os.open(line.strip(), os.O_WRONLY | os.O_CREAT, 0o600))
        print("done", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


@pytest.fixture
def ground_rules(scratch: Path) -> Path:
    directory = scratch / "rules"
    directory.mkdir()
    (directory / "rules.yml").write_text(_RULES)
    return directory


@pytest.fixture
def scratch(ground: Path):
    directory = Path(f"{ground}/held-{time.monotonic_ns()}")
    (directory / "forgiven").mkdir(parents=True)
    yield directory
    if (directory / "run" / "bpf").is_mount():
        subprocess.run(["umount", directory / "run" / "bpf"], check=True)


def state_of(pid: int) -> str:
    """`T` is stopped, and `S` of a frozen one asleep."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class Writer:
    """An agent that writes the files it is told to."""

    def __init__(self, monitor, *options: str) -> None:
        command = [*monitor.run_command("writer", *options), sys.executable, "-c", _WRITER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.launcher = subprocess.Popen(command, **pipes)
        assert self.launcher.stdout.readline() == "ready\n"
        (self.pid,) = (c.pid for c in psutil.Process(self.launcher.pid).children())

    def ask(self, path: Path) -> None:
        self.launcher.stdin.write(f"{path}\n")
        self.launcher.stdin.flush()

    def write(self, path: Path) -> str:
        self.ask(path)
        return self.launcher.stdout.readline().strip()

    def end(self) -> None:
        """Nothing of it is left, with or without a monitor."""
        with suppress(psutil.NoSuchProcess):
            psutil.Process(self.pid).kill()
        self.launcher.wait(20)
        self.launcher.stdin.close()
        self.launcher.stdout.close()


@contextmanager
def writing(monitor, *options: str):
    writer = Writer(monitor, *options)
    try:
        yield writer
    finally:
        estop("kill", "writer", "--runtime-dir", monitor.runtime_dir)
        writer.end()


def options_of(rules: Path, *more: str) -> tuple[str, ...]:
    return ("--listen", "", "--rules", str(rules), *more)


def _recorded(monitor) -> list:
    """The writer's alerts, once there is one: the stop is not kept waiting for its record."""
    assert until(lambda: monitor.alerts("writer"), 20)
    return monitor.alerts("writer")


def _after_a_resume(monitor) -> str:
    """What becomes of the act: on the lsm tier it never happens."""
    return "Operation not permitted" if monitor.health()["tier"] == "lsm" else "done"


@pytest.mark.parametrize("name", ["certain", "asks"])
def test_an_act_is_held_frozen_and_told_with_the_time_it_was_held(scratch, ground_rules, name):
    with private_monitor(scratch, *options_of(ground_rules)) as monitor, writing(monitor) as writer:
        writer.ask(scratch / name)
        assert until(lambda: monitor.session("writer")["state"] == "frozen", 20)
        (alert,) = _recorded(monitor)
        assert alert["timings_ns"]["held"] < alert["timings_ns"]["frozen"]
        assert (alert["event"]["verdict"] == "deny") is not (scratch / name).exists()
        monitor.act("writer", "resume", "seen")
        assert writer.launcher.stdout.readline() == f"{_after_a_resume(monitor)}\n"
        assert writer.write(scratch / "harmless") == "done"


def test_what_the_rule_forgives_goes_on_and_nobody_hears_of_it(scratch, ground_rules):
    with private_monitor(scratch, *options_of(ground_rules)) as monitor, writing(monitor) as writer:
        for _ in range(20):
            assert writer.write(scratch / "forgiven" / "asks") == "done"
        assert monitor.session("writer")["state"] == "running"
        assert monitor.alerts("writer") == []


def test_a_shell_with_job_control_sees_no_job_stop(scratch, ground_rules):
    """A stop that a verdict lifts again must not look to a shell like Ctrl-Z."""
    with private_monitor(scratch, *options_of(ground_rules)) as monitor:
        ours, theirs = pty.openpty()
        command = [*monitor.run_command("shell"), "bash", "--norc", "-i"]
        shell = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        for number in range(5):
            file = scratch / "forgiven" / "asks"
            os.write(ours, f"touch {file} && echo done-$(({number} + 1))\n".encode())
        os.write(ours, b"jobs; exit\n")
        said = b""
        while chunk := _read(ours):
            said += chunk
        shell.wait(20)
        assert b"done-5" in said
        assert b"Stopped" not in said
        assert monitor.alerts("shell") == []


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 4096)
    except OSError:  # the other end is closed
        return b""


def test_a_session_that_must_stop_for_what_it_inherits_never_begins_and_its_terminal_is_told(
    scratch, ground_rules
):
    begun = scratch / "begun"
    with (
        private_monitor(scratch, *options_of(ground_rules)) as monitor,
        (scratch / "certain").open("wb") as inherited,
    ):
        command = [*monitor.run_command("heir"), "touch", str(begun)]
        launcher = subprocess.Popen(
            command, pass_fds=(inherited.fileno(),), stderr=subprocess.PIPE, text=True
        )
        assert any("was frozen: Certain" in line for line in launcher.stderr)
        assert monitor.session("heir")["state"] == "frozen"
        assert not begun.exists()
        monitor.act("heir", "resume", "seen")
        assert launcher.wait(20) == 0
        assert begun.exists()
        launcher.stderr.close()


@pytest.mark.parametrize("name", ["certain", "asks"])
def test_a_monitor_killed_during_an_attack_leaves_it_held_and_the_next_one_tells(
    scratch, ground_rules, name
):
    with private_monitor(scratch, *options_of(ground_rules), keep=True) as monitor:
        if name == "certain" and monitor.health()["tier"] == "lsm":
            pytest.skip("refused without being held: tests/kernel/lsm")
        writer = Writer(monitor)
        kill_hard(monitor)
        writer.ask(scratch / name)
        assert until(lambda: state_of(writer.pid) == "T", 10)
    with private_monitor(scratch, *options_of(ground_rules)) as monitor:
        assert until(lambda: monitor.session("writer")["state"] == "frozen", 20)
        (alert,) = _recorded(monitor)
        assert alert["event"]["fields"]["TargetFilename"] == str(scratch / name)
        monitor.act("writer", "resume", "seen")
        assert writer.launcher.stdout.readline() == f"{_after_a_resume(monitor)}\n"
        writer.end()


def test_a_session_whose_monitor_is_dead_is_held_and_goes_on_with_the_next_one(
    scratch, ground_rules
):
    quick = {**os.environ, "ESTOP_DEADMAN_MS": "500"}
    options = options_of(ground_rules)
    with private_monitor(scratch, *options, environ=quick, keep=True) as monitor:
        writer = Writer(monitor)
        kill_hard(monitor)
        assert writer.write(scratch / "soon-after") == "done"
        time.sleep(0.6)
        writer.ask(scratch / "long-after")
        assert until(lambda: state_of(writer.pid) == "T", 10)
    with private_monitor(scratch, *options, environ=quick) as monitor:
        assert writer.launcher.stdout.readline() == "done\n"
        assert monitor.session("writer")["state"] == "running"
        titles = [alert["rule"]["id"] for alert in monitor.alerts("writer")]
        assert titles == ["estop-monitor-silent"]
        assert writer.write(scratch / "later") == "done"
        writer.end()


@pytest.fixture
def broken_monitor(scratch, monkeypatch):
    program = scratch / "broken-estop"
    program.write_text(_BROKEN_MONITOR.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr("agent.private_monitor.ESTOP", program)


# Who handles SIGCONT is not stopped: his session stands still by its cgroup alone.
_LINKER = """\
import os, signal, sys, time
if sys.argv[2] == "handles":
    signal.signal(signal.SIGCONT, lambda *_: None)
os.symlink("/nowhere", sys.argv[1] + "/certain")
os.close(os.open(sys.argv[1] + "/went-on", os.O_WRONLY | os.O_CREAT))
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("fail_mode", "sigcont"), [("open", "ignores"), ("open", "handles"), ("closed", "ignores")]
)
@pytest.mark.usefixtures("broken_monitor")
def test_what_is_not_judged_in_time_is_decided_by_fail_mode(
    scratch, ground_rules, fail_mode, sigcont
):
    went_on = scratch / "went-on"
    environ = {**os.environ, "ESTOP_FAIL_MODE": fail_mode}
    with private_monitor(scratch, *options_of(ground_rules), environ=environ) as monitor:
        words = [sys.executable, "-c", _LINKER, str(scratch), sigcont]
        command = [*monitor.run_command("late"), *words]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as launcher:
            try:
                assert until(lambda: "estop-verdict-late" in _by_rule(monitor), 20)
                told = _by_rule(monitor)["estop-verdict-late"]
                assert told == {"Candidates": 1, "FailMode": fail_mode}
                assert until(went_on.exists, 5 if fail_mode == "open" else 1) is (
                    fail_mode == "open"
                )
                session = monitor.session("late")
                assert session["state"] == ("running" if fail_mode == "open" else "frozen")
                stands = f"frozen {int(fail_mode == 'closed')}"
                events = Path(session["cgroup"]) / "cgroup.events"
                assert until(lambda: stands in events.read_text(), 5)
                log = monitor.log.read_text()
                assert "ValueError: a fault of ours" in log
                assert str(scratch / "certain") not in log
            finally:
                monitor.act("late", "kill", "the test is over")
                launcher.wait(20)


def _by_rule(monitor):
    """What each rule says of the session, by the rule's id."""
    return {alert["rule"]["id"]: alert["event"]["fields"] for alert in monitor.alerts("late")}


def test_with_fail_mode_open_nobody_waits_for_a_dead_monitor(scratch, ground_rules):
    free = {**os.environ, "ESTOP_DEADMAN_MS": "500", "ESTOP_FAIL_MODE": "open"}
    options = options_of(ground_rules)
    with private_monitor(scratch, *options, environ=free, keep=True) as monitor:
        writer = Writer(monitor)
        kill_hard(monitor)
        time.sleep(0.6)
        assert writer.write(scratch / "long-after") == "done"
        writer.end()
    estop("unload", "--runtime-dir", monitor.runtime_dir)
