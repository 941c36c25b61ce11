# SPDX-License-Identifier: Apache-2.0
"""A session is taken in, kept together, told apart from those of others, and its end is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from oneliner import estop, session_state, started, touch

from agent.private_monitor import private_monitor, until
from monitor.sessions.cgroups import find_root

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


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


@pytest.mark.parametrize("below", [2, 0])
def test_a_user_has_only_a_tree_of_his_own_taken_in(monitor, scratch, below):
    child = f"os.setresuid({below}, {below}, {below})"
    code = (
        f"import os, time\nif os.fork() == 0: {child}; open({str(scratch / 'pid')!r}, 'w'); time.sleep(60)"
        "\nos.setresuid(2, 2, 2); time.sleep(60)"
    )
    ask = (
        "import os, sys; from agent.client import *; os.setresuid(2, 2, 2)\n"
        "try: print(ask(sys.argv[1], 'POST', '/api/v1/sessions/attach', {'pid': int(sys.argv[2])})['id'])"
        "\nexcept MonitorError as error: print(error.status, error)"
    )
    (scratch / "pid").unlink(missing_ok=True)
    scratch.chmod(0o777)
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as agent:
        try:
            assert until((scratch / "pid").exists, 5)
            done = subprocess.run([sys.executable, "-c", ask, monitor.socket, str(agent.pid)],
                                  capture_output=True, text=True, check=True)  # fmt: skip
            if below:
                assert monitor.session(done.stdout.strip())["uid"] == 2
            else:
                assert done.stdout.startswith("403 ")
                assert "belongs to uid 0" in done.stdout
        finally:
            with suppress(ProcessLookupError):
                os.killpg(agent.pid, signal.SIGKILL)


def test_a_process_that_leaves_its_cgroup_is_brought_back_and_its_session_is_frozen(monitor):
    procs = find_root() / "cgroup.procs"
    code = f"import os, time; open({str(procs)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with started(monitor, "runaway", code):
        assert until(lambda: session_state(monitor, "runaway") == "frozen", 20)
        session = monitor.session("runaway")
        members = (Path(session["cgroup"]) / "cgroup.procs").read_text().split()
        assert str(session["root_pid"]) in members
        assert "frozen 1" in (Path(session["cgroup"]) / "cgroup.events").read_text()


def test_two_monitors_side_by_side_do_not_see_each_others_sessions(monitor, scratch, rules):
    with private_monitor(scratch, "--listen", "", "--rules", str(rules)) as other:
        with started(other, "mine", touch(scratch / "freeze-me")):
            assert until(lambda: session_state(other, "mine") == "frozen", 20)
        assert "mine" not in [s["name"] for s in monitor.get("/sessions")]
    assert monitor.health()["ok"]


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
