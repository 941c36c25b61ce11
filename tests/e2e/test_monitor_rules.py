# SPDX-License-Identifier: Apache-2.0
"""Rules are exchanged while sessions run, and bad ones change nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from oneliner import estop, write_rule

from agent.private_monitor import private_monitor, until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


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
