# SPDX-License-Identifier: Apache-2.0
"""What a monitor leaves behind: nothing, or what keeps a living session as it was; and where it crashed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from oneliner import estop, kill_hard, session_id, session_state, started, touch

from agent.private_monitor import Monitor, private_monitor, until
from monitor.sessions.cgroups import find_root

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


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
        cgroup = Path(monitor.session(session_id(monitor, "short"))["cgroup"])
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
        assert until(lambda: session_state(monitor, "held") == "frozen", 20)
        cgroup = Path(monitor.session("held")["cgroup"])
        links = pinned_links(monitor)
    assert pinned_links(monitor) == links
    assert "programs.left" in monitor.log.read_text()
    assert "frozen 1" in (cgroup / "cgroup.events").read_text()

    with private_monitor(scratch, *options) as monitor:
        assert pinned_links(monitor) == links
        assert session_state(monitor, "held") == "frozen"
        assert monitor.alerts("held")[0]["outcome"]["action"] == "frozen"
        assert estop("kill", "held", "--runtime-dir", monitor.runtime_dir).returncode == 0
        agent.wait(20)
        assert until(lambda: not cgroup.exists(), 10)
    assert until(lambda: gone(links), 5)
    assert not cgroup.parent.exists()
    assert cgroup.is_relative_to(root)


def test_unload_is_refused_while_a_monitor_runs_and_afterwards_removes_what_it_left(scratch, rules):
    options = ("--listen", "", "--rules", str(rules))
    with private_monitor(scratch, *options, keep=True) as monitor:
        agent = subprocess.Popen([*monitor.run_command("left"), "sleep", "60"])
        assert until(lambda: session_state(monitor, "left") == "running", 20)
        refused = estop("unload", "--runtime-dir", monitor.runtime_dir)
        assert refused.returncode == 1
        assert "another estop daemon" in refused.stderr
        cgroup = Path(monitor.session("left")["cgroup"])
    links = pinned_links(monitor)
    assert links
    done = estop("unload", "--runtime-dir", monitor.runtime_dir)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "removed; processes that waited for a daemon and go on: 0\n"
    assert until(lambda: gone(links), 5)
    (cgroup / "cgroup.kill").write_text("1")
    agent.wait(20)
    assert until(lambda: not (cgroup / "cgroup.procs").read_text(), 5)
    cgroup.rmdir()
    cgroup.parent.rmdir()


def test_a_monitor_that_crashes_says_where(scratch):
    with private_monitor(scratch) as monitor:
        # A crash of its own is in the thread that runs. From outside it comes to whichever, and what
        # another one is at just then, answering us, cannot be told by it.
        time.sleep(1)
        kill_hard(monitor, signal.SIGSEGV)
        log = (scratch / "monitor.log").read_text()
    assert "Fatal Python error: Segmentation fault" in log
    assert "pipeline.py" in log
