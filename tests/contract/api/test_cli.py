# SPDX-License-Identifier: Apache-2.0
"""The command line against a served API: what it prints, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import msgspec
import pytest
from environment import environ

from monitor.alerts import Action, ActionRecord
from monitor.record.queries import Page
from monitor.subjects import Session, State

COMMAND = [sys.executable, "-c", "from monitor.cli.main import main; main()"]


def run(*arguments, **settings):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environ(**settings),
    )


@pytest.fixture
def estop(api):
    def call(*arguments):
        return run(*arguments, runtime_dir=api.socket_path.parent)

    return call


def test_help_is_quick_because_it_loads_little():
    done = run("--help")
    assert done.returncode == 0
    assert "freeze" in done.stdout
    code = "import sys, monitor.cli.main; print('httpx' in sys.modules, 'rich' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert loaded.stdout == "False False\n"


@pytest.mark.parametrize(
    "command",
    [["sessions"], ["alerts"], ["tail"], ["freeze", "s1"], ["attach", "--pid", "2"], ["run", "id"]],
)
def test_without_a_daemon_one_line_names_the_socket_and_the_mend(tmp_path, command):
    done = run(command[0], "--runtime-dir", tmp_path, *command[1:])
    assert done.returncode == 3
    assert done.stdout == ""
    error, mend = done.stderr.splitlines()
    assert f"no daemon answers on {tmp_path}/estop.sock" in error
    assert "mend: start it with `sudo estop daemon`" in mend


def test_with_json_an_error_is_json_too(tmp_path):
    done = run("sessions", "--json", "--runtime-dir", tmp_path)
    assert done.returncode == 3
    assert set(json.loads(done.stderr)) == {"error", "mend"}


def test_wrong_usage_ends_with_2():
    assert run("freeze").returncode == 2
    assert run("no-such-command").returncode == 2
    assert run("run", "--no-such-option", "id").returncode == 2


def test_sessions_are_listed_for_people_and_for_programs(api, estop):
    session = api.control.add("s1")
    assert "name-s1" in estop("sessions").stdout
    found = msgspec.json.decode(estop("sessions", "--json").stdout, type=list[Session])
    assert found == [session]


def test_freeze_says_what_was_done_and_records_why(api, estop):
    api.control.add("s1")
    done = estop("freeze", "name-s1", "--why", "looked odd")
    assert (done.returncode, done.stdout) == (0, "name-s1 (s1): frozen\n")
    assert api.control.known["s1"].state is State.FROZEN
    record = msgspec.json.decode(estop("kill", "s1", "--json").stdout, type=ActionRecord)
    assert record.outcome.action is Action.KILLED


def test_a_dead_session_id_is_an_error_with_its_name_and_a_mend(estop):
    done = estop("resume", "gone?x=\x1b%2f")
    assert done.returncode == 1
    assert done.stderr.startswith("estop: error: there is no session 'gone?x=\\x1b%2f'\n  mend: ")


def test_alerts_are_listed_oldest_first_for_people_and_as_a_page_for_programs(api, estop):
    alerts = [api.alert(1, text="/etc/hosts"), api.alert(2, text="/etc/shadow")]
    shown = estop("alerts").stdout
    assert 0 < shown.index("/etc/hosts") < shown.index("/etc/shadow")
    page = msgspec.json.decode(estop("alerts", "--json", "--limit", 1).stdout, type=Page)
    assert page.items == [alerts[1]]
    assert page.next is not None


def test_an_agents_text_steers_neither_the_terminal_nor_rich(api, estop):
    api.alert(1, text="[red]\x1b[2J\n\u202e[/red][link=x]")
    shown = estop("alerts").stdout
    assert r"[red]\x1b[2J\n\u202e[/red][link=x]" in shown
    assert "\x1b" not in shown


@pytest.fixture
def tail(api):
    """A running `estop tail`, once it follows; Ctrl-C ends it."""
    started = []

    def start(*options):
        started.append(
            subprocess.Popen(
                [*COMMAND, "tail", *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environ(runtime_dir=api.socket_path.parent),
            )
        )
        while not api.server._app.state.followers._wakers:
            time.sleep(0.05)
        return started[0].stdout

    yield start
    with started[0] as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 1
        assert "Traceback" not in process.stderr.read()


def test_tail_prints_every_state_of_an_alert_for_programs(api, tail):
    lines = tail("--json")
    for action in (Action.STOPPING, Action.FROZEN, Action.FROZEN):
        api.alert(1, action=action)
        assert json.loads(lines.readline())["outcome"]["action"] == action


def test_tail_tells_people_again_only_when_something_else_came_of_it(api, tail):
    lines = tail()
    for action in (Action.STOPPING, Action.FROZEN):  # who is slow is told the newest state only
        api.alert(1, action=action)
        assert f" {action} " in lines.readline()
    api.alert(1, action=Action.FROZEN)
    api.alert(2)
    assert " frozen " in lines.readline()
    api.alert(3, text="last")
    assert "last" in lines.readline()


def test_attach_asks_for_what_was_given(api, estop):
    done = estop("attach", "--pid", "77", "--name", "old", "--observe", "--json")
    assert msgspec.json.decode(done.stdout, type=Session).id == "attached"
    (request, _peer) = api.control.launches[0]
    assert (request.pid, request.name, request.mode) == (77, "old", "observe")


def test_doctor_names_what_the_daemon_lacks_and_ends_with_1(estop):
    done = estop("doctor")
    assert done.returncode == 1
    assert "1 of 2; not: open" in done.stdout
    assert "problem: one program is not attached" in done.stdout
    assert "1 held" in done.stdout
    found = json.loads(estop("doctor", "--json").stdout)
    assert found["ok"] is False
    assert found["daemon"]["tier"] == "tracepoint"
    assert found["rules"][0]["id"] == "hosts"


def test_doctor_checks_the_host_without_a_daemon(tmp_path):
    found = json.loads(run("doctor", "--json", "--runtime-dir", tmp_path).stdout)
    assert found["daemon"] is None
    assert "sudo estop daemon" in found["not_running"]
    names = [requirement["name"] for requirement in found["requirements"]]
    assert names == ["kernel", "machine", "BTF", "cgroup2", "root", "bcc", "seccomp", "bpftool"]


def test_rules_check_reports_every_problem_with_file_line_and_mend(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.yml").write_text("title: t\ntitle: again\n")
    (tmp_path / "three.yml").write_text(RULE.replace("level: high", "level: hihg"))
    done = run("rules", "check", tmp_path)
    assert done.returncode == 1
    for name in ("one", "two"):
        assert f"{tmp_path}/{name}.yml:2" in done.stderr
    assert f"{tmp_path}/three.yml:10: unknown level `hihg` (did you mean `high`?)" in done.stderr
    found = json.loads(run("rules", "check", "--json", tmp_path).stdout)
    assert found["ok"] is False
    assert {problem["line"] for problem in found["problems"]} >= {2}


def test_the_bundled_rules_pass_their_check():
    done = run("rules", "check")
    assert done.returncode == 0, done.stderr


RULE = """
title: Hosts file
id: 3f0b5b2e-6f0a-4f57-9d39-0d6a2f0e7c01
name: my_hosts
logsource: {product: linux, category: file_event}
detection:
    s: {TargetFilename|cased: /etc/hosts, Operation: open}
    filter: {Image|cased: /usr/bin/editor}
    condition: s and not filter
level: high
response: freeze
"""


def test_rules_explain_shows_what_the_kernel_is_told_without_a_daemon(tmp_path):
    (tmp_path / "rule.yml").write_text(RULE)
    done = run("rules", "explain", "--runtime-dir", tmp_path, "my_hosts", tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("prevented in kernel", "start the daemon to know", "exact", "/usr/bin/editor"):
        assert part in done.stdout
    done = run("rules", "explain", "--runtime-dir", tmp_path, "--json", "Hosts FILE", tmp_path)
    found = json.loads(done.stdout)
    assert found["part"] == "whole"
    assert found["watches"][0]["certain"] == ["write"]


def test_rules_explain_asks_the_daemon_what_a_rule_is_worth(api, estop, tmp_path):
    (tmp_path / "rule.yml").write_text(RULE)
    api.control.rule_id = "3f0b5b2e-6f0a-4f57-9d39-0d6a2f0e7c01"
    done = estop("rules", "explain", "--json", "my_hosts", tmp_path)
    assert json.loads(done.stdout)["rule"]["enforcement"] == "held in kernel"


def test_rules_explain_of_no_rule_says_where_to_look(tmp_path):
    (tmp_path / "rule.yml").write_text(RULE)
    done = run("rules", "explain", "--runtime-dir", tmp_path, "nope", tmp_path)
    assert done.returncode == 1
    assert "no rule has the id, name or title 'nope'" in done.stderr


def test_a_daemon_with_an_unusable_setting_says_which(tmp_path):
    config = tmp_path / "estop.toml"
    config.write_text('listne = ""\nfreeze_deadline_ms = "soon"\n')
    done = run("daemon", "--config", config, "--listen", "0.0.0.0:80")
    assert done.returncode == 1
    for part in ("listne: no such setting", "freeze_deadline_ms", "'0.0.0.0' is not a loopback"):
        assert part in done.stderr
