# SPDX-License-Identifier: Apache-2.0
"""A session that serves files itself (FUSE) and does not answer: it is stopped, and no other waits."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from environment import environ
from oneliner import estop, write_rule

from agent.private_monitor import Monitor, private_monitor, until
from tests.bench.figures import compiled

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.kernel,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="this kernel has no FUSE"),
]

_SERVED = Path(__file__).parents[1] / "kernel" / "programs" / "served.c"


@pytest.fixture
def served(scratch):
    """A program that serves files at a mount point, which is taken away at the end."""
    (scratch / "mnt").mkdir()
    yield compiled(scratch, _SERVED)
    subprocess.run(["umount", "--lazy", scratch / "mnt"], stderr=subprocess.DEVNULL, check=False)


def _options(rules: Path) -> tuple[str, ...]:
    write_rule(rules, 5, "/freeze-me", "freeze")
    renamed = write_rule(rules, 6, "/rename-me", "freeze")
    renamed.write_text(renamed.read_text().replace("file_event", "file_rename"))
    return ("--listen", "", "--rules", str(rules))


def _begin(stack: ExitStack, monitor: Monitor, name: str, words: list[str], ready: str) -> None:
    """An agent of that name, at work once it says that word, until the end of the test."""
    command = [*monitor.run_command(name), *words]
    agent = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(agent.wait, 30)
    stack.callback(monitor.act, name, "kill", "the test is over")
    assert agent.stdout is not None
    assert ready in iter(agent.stdout.readline, ""), f"{name} never said {ready}"


def _rules(monitor: Monitor, name: str) -> set[str]:
    return {alert["rule"]["id"] for alert in monitor.alerts(name)}


def _another_is_judged(stack: ExitStack, monitor: Monitor, scratch: Path) -> None:
    words = ["sh", "-c", f"echo at work; sleep 0.5; : > {scratch}/freeze-me; sleep 600"]
    _begin(stack, monitor, "other", words, "at work\n")
    assert until(lambda: monitor.session("other")["state"] == "frozen", 20)
    first = monitor.alerts("other")[-1]
    assert first["rule"]["title"] == "Scratch file written"
    assert first["timings_ns"]["matched"] < 500e6, first
    assert "estop-verdict-late" not in _rules(monitor, "other")


def _acts(mount: Path) -> str:
    return f"echo x > {mount}/written; mv {mount}/one {mount}/two; echo at work; sleep 600"


@pytest.mark.parametrize("answers", ["own", "all"])
def test_who_serves_his_own_files_keeps_no_other_waiting(scratch, rules, served, answers):
    """`own` answers itself and not us; `all` would, and is frozen over a name that a rule means."""
    mount, options = scratch / "mnt", _options(rules)
    with private_monitor(scratch, *options, environ=environ()) as monitor, ExitStack() as stack:
        acts = _acts(mount) if answers == "own" else f"mv {mount}/one {mount}/rename-me"
        words = [served, str(mount), answers, "sh", "-c", f"echo begins; {acts}; sleep 600"]
        _begin(stack, monitor, "server", words, "begins\n")
        _another_is_judged(stack, monitor, scratch)
        assert until(lambda: monitor.session("server")["state"] == "frozen", 20)
        assert "estop-verdict-late" not in _rules(monitor, "server") | _rules(monitor, "other")
        if answers == "own":
            assert "estop-unanswered" in _rules(monitor, "server")
        assert not any(monitor.health()["lost"].values())


def test_where_fail_mode_is_open_it_is_told_and_nobody_is_stopped(scratch, rules, served):
    settings = environ(fail_mode="open")
    with (
        private_monitor(scratch, *_options(rules), environ=settings) as monitor,
        ExitStack() as stack,
    ):
        words = [served, str(scratch / "mnt"), "own", "sh", "-c", _acts(scratch / "mnt")]
        _begin(stack, monitor, "server", words, "at work\n")
        assert until(lambda: "estop-unanswered" in _rules(monitor, "server"), 20)
        _another_is_judged(stack, monitor, scratch)
        assert monitor.session("server")["state"] == "running"
        told = [a["rule"]["id"] for a in monitor.alerts("server")]
        assert told.count("estop-unanswered") == 1


def test_who_served_them_before_he_was_attached_keeps_nobody_waiting_either(scratch, rules, served):
    mount, go = scratch / "mnt", scratch / "go"
    acts = f"until test -e {go}; do sleep 0.1; done; {_acts(mount)}"
    with (
        private_monitor(scratch, *_options(rules), environ=environ()) as monitor,
        ExitStack() as stack,
    ):
        words = [served, str(mount), "own", "sh", "-c", acts]
        agent = stack.enter_context(subprocess.Popen(words, start_new_session=True))
        stack.callback(agent.kill)
        time.sleep(1.5)  # nobody is watched: by now the monitor takes it for somebody else's
        done = estop(
            "attach", "--pid", agent.pid, "--name", "server", "--runtime-dir", monitor.runtime_dir
        )
        assert done.returncode == 0, done.stderr
        stack.callback(monitor.act, "server", "kill", "the test is over")
        go.touch()
        _another_is_judged(stack, monitor, scratch)
        assert until(lambda: monitor.session("server")["state"] == "frozen", 20)
        assert "estop-unanswered" in _rules(monitor, "server")


def test_who_sleeps_over_files_of_his_own_stands_still_all_the_same(scratch, rules, served):
    """No cgroup is frozen while one of its threads waits for a server, here one that was stopped."""
    mount = scratch / "mnt"
    acts = f"pkill -STOP -P $PPID -x served; cat {mount}/x & sleep 0.5; : > {scratch}/freeze-me"
    with (
        private_monitor(scratch, *_options(rules), environ=environ()) as monitor,
        ExitStack() as stack,
    ):
        words = [served, str(mount), "all", "sh", "-c", f"echo begins; {acts}; sleep 600"]
        _begin(stack, monitor, "sleeper", words, "begins\n")
        assert until(lambda: monitor.session("sleeper")["state"] == "frozen", 20)
        frozen = {"estop-unanswered": "frozen"}  # over the name that `cat` was started with
        assert until(
            lambda: (
                frozen.items()
                <= {
                    a["rule"]["id"]: a["outcome"]["action"] for a in monitor.alerts("sleeper")
                }.items()
            ),
            20,
        )
