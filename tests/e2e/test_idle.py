# SPDX-License-Identifier: Apache-2.0
"""A machine on which no agent runs: nothing of ours stands in the way of others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from environment import environ

from agent.private_monitor import private_monitor, until
from monitor.capture.programs import resting
from monitor.tier import Tier

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_REST_S = 20.0


def test_what_every_process_is_asked_by_comes_with_the_first_session_and_goes_after_the_last(
    ground: Path,
) -> None:
    scratch = ground / "idle"
    scratch.mkdir()
    with private_monitor(scratch, "--listen", "", environ=environ()) as monitor:

        def asked() -> set[str]:
            health = monitor.health()
            assert all(health["programs"].values())
            return set(health["programs"]) & set(resting(Tier(health["tier"])))

        assert not asked()
        command = [*monitor.run_command("short"), "sh", "-c", "echo >/etc/hosts; echo done"]
        hosts = scratch / "hosts"
        hosts.touch()
        stage = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
        staged = [*stage, f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh", *command]
        with subprocess.Popen(staged, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as agent:
            assert until(lambda: monitor.alerts("short") != [], 10.0), "it was not stopped"
            assert asked()
            monitor.act("short", "kill", "it was")
            assert agent.communicate()[0] == b""
        assert until(lambda: not asked(), _REST_S)
        assert os.stat(hosts).st_size == 0
