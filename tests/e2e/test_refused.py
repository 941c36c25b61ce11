# SPDX-License-Identifier: Apache-2.0
"""What a session may not open it does not open; nobody else notices, whoever of us is ill."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from opener import gate_caught_up, opener

from agent.private_monitor import Monitor, private_monitor, until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_OUTSIDER = """
import json, os, sys, time
took = []
for _ in range(1000):
    start = time.perf_counter_ns(); fd = os.open(sys.argv[1], os.O_RDONLY)
    took.append(time.perf_counter_ns() - start); os.close(fd)
took.sort(); print(took[500], took[990])
"""
_DESTROY = os.O_WRONLY | os.O_TRUNC


def gatekeeper_of(monitor: Monitor) -> psutil.Process | None:
    with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
        for child in psutil.Process(monitor.pid).children():
            if "monitor.capture.gatekeeper" in child.cmdline():
                return child
    return None


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def outsider(path: Path) -> tuple[int, int]:
    """p50 and p99 in ns of opening it a thousand times."""
    command = ["/usr/bin/python3", "-c", _OUTSIDER, str(path)]
    p50, p99 = subprocess.check_output(command, text=True, timeout=20).split()
    return int(p50), int(p99)


@pytest.fixture
def own(tmp_path) -> Iterator[Monitor]:
    """A monitor that a test may stop and kill."""
    with private_monitor(tmp_path, "--listen", "") as monitor:
        if "fanotify gives no permission events" in monitor.log.read_text():
            pytest.skip("no permission events here")
        yield monitor


def test_the_hosts_file_can_be_read_and_not_opened_for_writing(monitor, place, user):
    hosts = place / "etc" / "hosts"
    before = hosts.read_bytes()
    with opener(monitor, place, user) as agent:
        assert agent.opens("/etc/hosts") == before.decode()[:100]
        agent.order("/etc/hosts", _DESTROY)
        alert = agent.of.await_stop(10)
        assert alert["outcome"]["action"] == "frozen"
        assert "did not happen" in alert["outcome"]["detail"]
        assert alert["event"]["fields"]["TargetFilename"] == "/etc/hosts"
        assert "frozen 1" in agent.of.cgroup_file("cgroup.events")
        assert alert["timings_ns"]["frozen"] < 500e6  # the asker itself did not stand in the way
        assert hosts.read_bytes() == before
        assert outsider(hosts)
        with hosts.open("ab"):
            pass
        monitor.act(agent.of.name, "resume", "to hear what it got")
        assert agent.said() == errno.EPERM
        assert hosts.read_bytes() == before


def test_a_credential_is_not_read(monitor, place, user):
    secret = place / "home" / ".aws" / "credentials"
    with opener(monitor, place, user) as agent:
        agent.order(str(secret))
        alert = agent.of.await_stop(10)
        assert "did not happen" in alert["outcome"]["detail"]
        assert secret.read_text().startswith("[default]")
        monitor.act(agent.of.name, "resume", "to hear what it got")
        assert agent.said() == errno.EPERM


def test_a_credential_that_comes_later_beside_another_is_not_read(monitor, place, user):
    """Its directory is marked, so there is no moment at which nobody asks."""
    directory = place / "home" / ".aws"
    (directory / "credentials").unlink()
    with opener(monitor, place, user) as agent:
        (directory / "new").write_text("[default]\n")
        (directory / "new").rename(directory / "credentials")
        agent.order(str(directory / "credentials"))
        assert "did not happen" in agent.of.await_stop(10)["outcome"]["detail"]


def test_a_monitor_that_does_not_answer_holds_the_session_and_nobody_else(own, place, user):
    hosts = place / "etc" / "hosts"
    with opener(own, place, user) as agent:
        os.kill(own.pid, signal.SIGSTOP)
        try:
            agent.order("/etc/hosts", _DESTROY)
            start = time.monotonic()
            while time.monotonic() - start < 3:
                p50_ns, _ = outsider(hosts)
                assert p50_ns < 5e6
            assert hosts.stat().st_size
        finally:
            os.kill(own.pid, signal.SIGCONT)
        alert = agent.of.await_stop(10)
        assert "did not happen" in alert["outcome"]["detail"]
        own.act(agent.of.name, "resume", "to hear what it got")
        assert agent.said() == errno.EPERM
        assert hosts.stat().st_size


def test_a_dead_monitor_takes_the_gate_along_and_the_kernel_still_holds(tmp_path, place, user):
    hosts = place / "etc" / "hosts"
    options = ("--listen", "")
    with (
        private_monitor(tmp_path, *options) as monitor,
        opener(monitor, place, user) as agent,
    ):
        gatekeeper = gatekeeper_of(monitor)
        os.kill(monitor.pid, signal.SIGKILL)
        assert until(lambda: gone(gatekeeper), 5, 0.005)
        assert outsider(hosts)
        agent.order("/etc/hosts", os.O_WRONLY)
        time.sleep(1)
        assert not (agent.home / "said").exists()
        assert outsider(hosts)
        with private_monitor(tmp_path, *options) as following:
            alert = agent.of.await_stop(10)
            assert alert["rule"]["title"] == "Name resolution changed in place"
            assert not alert["outcome"]["detail"]
            following.act(agent.of.name, "kill", "seen enough")
            agent.of.await_end()


def test_what_waited_for_a_monitor_that_was_killed_is_told_by_the_next(tmp_path, place, user):
    hosts = place / "etc" / "hosts"
    before = hosts.read_bytes()
    options = ("--listen", "")
    with (
        private_monitor(tmp_path, *options) as monitor,
        opener(monitor, place, user) as agent,
    ):
        os.kill(monitor.pid, signal.SIGSTOP)
        agent.order("/etc/hosts", _DESTROY)
        time.sleep(0.5)  # the question is on its way, and nobody answers
        assert not (agent.home / "said").exists()
        os.kill(monitor.pid, signal.SIGKILL)
        with private_monitor(tmp_path, *options) as following:
            alert = agent.of.await_stop(10)
            # The gatekeeper refuses if it hears of the monitor's end before it is ended itself.
            assert alert["event"]["verdict"] in {"deny", "hold"}
            assert (hosts.read_bytes() == before) == (alert["event"]["verdict"] == "deny")
            acts = {a["event"]["ktime_ns"] for a in following.alerts(agent.of.name)}
            assert len(acts) == 1
            following.act(agent.of.name, "kill", "seen enough")
            agent.of.await_end()


def test_a_gatekeeper_that_was_killed_is_alarmed_and_followed_by_another(own, place, user):
    hosts = place / "etc" / "hosts"
    before = hosts.read_bytes()
    with opener(own, place, user) as agent:
        first = gatekeeper_of(own)
        first.kill()
        assert outsider(hosts)
        assert until(lambda: gatekeeper_of(own) not in {None, first}, 10)
        gate_caught_up()
        titles = [a["rule"]["id"] for a in own.alerts(agent.of.name)]
        assert titles == ["estop-gate-gone"]
        agent.order("/etc/hosts", _DESTROY)
        assert "did not happen" in agent.of.await_stop(10)["outcome"]["detail"]
        assert hosts.read_bytes() == before
        assert own.health()["problems"] == []


def test_what_the_gate_costs(monitor, place, user):
    hosts, plain = place / "etc" / "hosts", place / "etc" / "plain"
    plain.touch()
    with opener(monitor, place, user) as agent:
        for path, shown in ((plain, "/etc/plain"), (hosts, "/etc/hosts")):
            agent.order(shown, times=300)
            _, p50, p99 = agent.timed()
            print(
                f"a session's open and read of {shown}: p50 {p50 / 1e3:.0f}, p99 {p99 / 1e3:.0f} us"
            )
            p50, p99 = outsider(path)
            print(f"an outsider's open of {shown}: p50 {p50 / 1e3:.0f}, p99 {p99 / 1e3:.0f} us")
        gate = gatekeeper_of(monitor)
        info = gate.memory_full_info()
        print(
            f"the gatekeeper: RSS {info.rss >> 10} kB, PSS {info.pss >> 10} kB, nice {gate.nice()}"
        )
        assert not agent.of.monitor.alerts(agent.of.name)
