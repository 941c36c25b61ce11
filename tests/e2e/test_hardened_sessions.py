# SPDX-License-Identifier: Apache-2.0
"""What a session is denied by its launcher, with the real monitor looking on."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from agent.client import MonitorError
from agent.hardening import Guard, available
from agent.private_monitor import until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_URING = Path(__file__).parents[1] / "kernel" / "programs" / "uring.c"


def run(monitor, place, *words: str, options=()) -> subprocess.CompletedProcess[str]:
    command = [*monitor.run_command(place.name, *options), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_record_and_the_list_say_what_holds_for_a_session(monitor, place):
    run(monitor, place, "true")
    imposed = [str(guard) for guard in available(allow_new_privileges=False)]
    assert monitor.session(place.name)["hardening"] == imposed
    estop, _, *options = monitor.run_command(place.name)
    listed = [estop, "sessions", *options[:2], "--json"]
    sessions = json.loads(subprocess.check_output(listed))
    assert {s["name"]: s for s in sessions}[place.name]["hardening"] == imposed


def test_new_privileges_are_allowed_on_request(monitor, place):
    read = ("grep", "NoNewPrivs", "/proc/self/status")
    done = run(monitor, place, *read, options=["--allow-new-privileges"])
    assert done.stdout == "NoNewPrivs:\t0\n"
    imposed = [str(guard) for guard in available(allow_new_privileges=True)]
    assert monitor.session(place.name)["hardening"] == imposed
    assert "seccomp" in imposed


def test_a_session_gets_no_ring(monitor, place, ground):
    program = ground / f"uring-{place.name}"
    subprocess.run(["cc", "-O1", "-static", "-o", program, _URING], check=True)
    done = run(monitor, place, str(program), "plain", "1", "9", str(program))
    assert done.returncode == 3
    assert done.stderr.endswith("io_uring_setup: Operation not permitted\n")


@pytest.mark.skipif(
    Guard.LANDLOCK_SIGNALS not in available(allow_new_privileges=False),
    reason="this kernel's Landlock scopes no signals (Linux 6.12 does)",
)
def test_a_session_of_root_s_cannot_signal_the_monitor(monitor, place):
    with socket.socket(socket.AF_UNIX) as knock:
        knock.connect(monitor.socket)
        credentials = knock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, _, _ = struct.unpack("3i", credentials)
    command = [*monitor.run_command(place.name), "sh", "-c", f"kill -TERM {pid}; sleep 60"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as agent:
        assert until(lambda: _state(monitor, place) == "frozen", 20)
        (alert,) = monitor.alerts(place.name)
        assert alert["event"]["fields"]["Operation"] == "monitor_signal"
        assert alert["event"]["fields"]["Refused"]
        monitor.act(place.name, "kill", "seen")
        agent.communicate()
    assert monitor.health()["version"]


def _state(monitor, place) -> str:
    with suppress(MonitorError):  # not adopted yet
        return monitor.session(place.name)["state"]
    return ""
