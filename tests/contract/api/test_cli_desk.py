# SPDX-License-Identifier: Apache-2.0
"""The responder's commands against a served API: what they print, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from test_cli import run

from monitor.cli.main import COMMANDS
from monitor.cli.main import estop as command
from monitor.control import GrantRequest
from monitor.incidents import Resolution

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def estop(api):
    def call(*arguments):
        return run(*arguments, runtime_dir=api.socket_path.parent)

    return call


def test_without_a_command_it_says_what_waits_and_ends_with_1(api, estop):
    api.control.add("s1")
    api.incident(1)
    done = estop()
    assert done.returncode == 1
    for part in ("1 stopped and waiting for you", "Sentence 1.", "estop resume|kill name-s1"):
        assert part in done.stdout


def test_status_in_json_holds_all_of_it(api, estop):
    api.control.add("s1")
    api.incident(1)
    found = json.loads(estop("status", "--json").stdout)
    assert found["incidents"][0]["cause"] == "a1"
    assert found["sessions"][0]["id"] == "s1"
    assert found["alerts"][0]["id"] == "a1"
    assert found["health"]["ok"] is False


def test_an_incident_is_told_with_what_to_do_next(api, estop):
    api.control.add("s1")
    opened = api.incident(1)
    done = estop("incident", "last")
    assert done.returncode == 0, done.stderr
    for part in ("Sentence 1.", "estop resume name-s1", "--rule hosts", opened.id):
        assert part in done.stdout
    assert json.loads(estop("incident", opened.id, "--json").stdout)["id"] == opened.id


def test_a_hostile_name_steers_no_terminal(api, estop):
    api.control.add("s1")
    api.alert(1, text="/tmp/\x1b[2Jx")
    shown = estop("alerts").stdout
    assert "\x1b" not in shown
    assert "\\x1b[2Jx" in shown


def test_evidence_goes_into_a_new_file_and_never_over_an_old_one(api, estop, tmp_path):
    api.control.add("s1")
    api.incident(1)
    file = tmp_path / "e.tar.zst"
    assert estop("incident", "last", "--evidence", file).returncode == 0
    assert file.read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
    again = estop("incident", "last", "--evidence", file)
    assert again.returncode == 1
    assert "name another file" in again.stderr


def test_notes_are_taken(api, estop):
    api.incident(1)
    assert "acknowledged by uid" in estop("acknowledge", "last", "--why", "on it").stdout
    assert "assigned to bob" in estop("assign", "last", "--to", "bob").stdout
    kept = api.store.incidents().items[0].care
    assert (kept.why, kept.assignee) == ("on it", "bob")


def test_resolved_incidents_are_listed_with_what_became_of_them(api, estop):
    api.incident(1)
    api.control.casebook.resolved("s1", Resolution.RESUMED)
    assert "resumed" in estop("incidents").stdout
    assert estop("incidents", "--state", "open").stdout == "no incidents\n"


@pytest.mark.parametrize(
    ("span", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400)]
)
def test_a_grant_says_how_long(api, estop, span, seconds):
    api.control.add("s1")
    made = []
    api.control.grant = lambda session, request, who: made.append(request) or _given(api, session)
    estop("grant", "s1", "--rule", "hosts", "--for", span, "--field", "TargetFilename=/etc/hosts")
    assert (made[0].for_s, made[0].fields) == (seconds, {"TargetFilename": "/etc/hosts"})


def _given(api, session):
    return type(api.control).grant(api.control, session, GrantRequest(rule="hosts"), who="x")


@pytest.mark.parametrize(
    "arguments", [("--for", "soon"), ("--for", "5"), ("--field", "no-equals-sign")]
)
def test_a_grant_that_makes_no_sense_is_wrong_usage(api, estop, arguments):
    api.control.add("s1")
    done = estop("grant", "s1", "--rule", "hosts", *arguments)
    assert done.returncode == 2
    assert api.control.given == {}


def test_a_token_is_printed_alone_so_that_a_script_can_take_it(api, estop):
    made = estop("token", "create", "ann", "--role", "viewer")
    secret = made.stdout.strip()
    with api.tcp(token=secret) as client:
        assert client.get("/me").json()["role"] == "viewer"
    listed = json.loads(estop("token", "list", "--json").stdout)
    (ann,) = [token for token in listed if token["name"] == "ann"]
    assert estop("token", "revoke", ann["id"]).returncode == 0
    with api.tcp(token=secret) as client:
        assert client.get("/me").status_code == 401


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_its_shell_takes(shell):
    done = run("completion", shell)
    assert "_ESTOP_COMPLETE" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)


# What is written down about the command ------------------------------------------------------------


def _all_commands():
    context = click.Context(command)
    for name in COMMANDS:
        found = command.get_command(context, name)
        yield (name,), found
        for below in getattr(found, "commands", {}):
            yield (name, below), found.commands[below]


@pytest.mark.parametrize(("words", "found"), list(_all_commands()), ids=str)
def test_every_command_says_what_it_does_and_every_option_has_help(words, found):
    assert found.help
    for parameter in found.params:
        if isinstance(parameter, click.Option) and parameter.name != "limit":
            assert parameter.help, f"{words} {parameter.opts}"


def test_there_is_a_man_page_for_every_command(tmp_path):
    words = [sys.executable, str(PROJECT / "deploy" / "manpages.py"), str(tmp_path)]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    pages = {page.name for page in tmp_path.iterdir()}
    assert pages >= {f"estop-{'-'.join(words)}.1" for words, _ in _all_commands()}
    assert r"\-\-rule" in (tmp_path / "estop-grant.1").read_text()
