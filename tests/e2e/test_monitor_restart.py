# SPDX-License-Identifier: Apache-2.0
"""What a session did and learned counts when the monitor ended, crashed, and came back."""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from oneliner import kill_hard, session_id, session_state, write_rule

from agent.private_monitor import Monitor, private_monitor, until
from monitor.capture import bpf, wire

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


def _told(monitor: Monitor, name: str) -> list[str]:
    fields = [a["event"]["fields"] for a in monitor.alerts(name)]
    return sorted(f["TargetFilename"].rpartition("/")[2] for f in fields)


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
        kill_hard(monitor)
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
                kill_hard(monitor)


def test_what_was_lost_while_no_monitor_ran_is_told_by_the_next_one(scratch):
    options = ("--listen", "")
    with private_monitor(scratch, *options, keep=True) as monitor:
        work = f"touch {scratch}/at-work; sleep 60"
        agent = subprocess.Popen([*monitor.run_command("loser"), "sh", "-c", work])
        assert until((scratch / "at-work").exists, 20)
        kill_hard(monitor)
    [lost] = Path(monitor.socket).parent.glob("bpf/*/maps/lost")
    number, count = wire.MAPS["lost"]
    with closing(bpf.Map(bpf.get(str(lost)), number.packed, count.packed)) as losses:
        losses.set((0,), (7,))
    with private_monitor(scratch, *options, keep=True) as monitor:
        assert until(lambda: [a["event"]["fields"] for a in monitor.alerts("loser")], 20)
        [alert] = monitor.alerts("loser")
        assert (alert["rule"]["id"], alert["event"]["fields"]) == (
            "estop-events-lost",
            {"Lost": {"fork": 7}},
        )
        time.sleep(1.5)
        assert len(monitor.alerts("loser")) == 1
        monitor.act("loser", "kill", "seen")
        agent.wait(20)


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
        session = session_id(monitor, "quick")
        kill_hard(monitor)
    (scratch / "go").touch()
    agent.wait(20)
    with private_monitor(scratch, *options) as monitor:
        assert until(lambda: len(monitor.alerts(session)) == 1, 20)
        assert until(lambda: session_state(monitor, "quick") == "exited", 20)


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
                kill_hard(monitor)
        with private_monitor(scratch, *options) as monitor:
            (scratch / "go").touch()
            assert until(lambda: session_state(monitor, "heir") == "frozen", 20)
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
            assert until(lambda: session_state(monitor, "cut") == "frozen", 20)
            cgroup = Path(monitor.session("cut")["cgroup"])
            pid = monitor.session("cut")["root_pid"]
            kill_hard(monitor)
        answers.touch()  # it may not have come that far
        before = answers.read_text()
        # Whoever thaws it behind the monitor's back lets it come no further than its next call.
        (cgroup / "cgroup.freeze").write_text("0")
        assert until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 10)
        # The rule is judged in user space: the first may be of a connection from before the freeze.
        more = answers.read_text().removeprefix(before).split()
        assert set(more[1:]) <= {str(errno.EPERM)}
        with private_monitor(scratch, *options) as monitor:
            assert session_state(monitor, "cut") == "frozen"
            assert "frozen 1" in (cgroup / "cgroup.events").read_text()
            monitor.act("cut", "resume", "seen")
            assert until(lambda: answers.read_text().endswith("0\n"), 10)
            monitor.act("cut", "kill", "seen")
            agent.wait(20)
