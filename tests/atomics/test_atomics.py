# SPDX-License-Identifier: Apache-2.0
"""Attacks that others wrote, run in a root file system to be thrown away: does an alert tell of them?

The attacks are data, and not ours to ship: a file of them is named by ATOMICS, or lies beside the
project. Each has `technique`, `name`, `shell`, `setup`, `command`, `works` and `expected_class`.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from environment import environ

from agent.private_monitor import private_monitor
from tests.stage.perform import perform

# All attacks are made before the first test asks what became of them: two minutes here.
pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
FILE = Path(os.environ.get("ATOMICS") or PROJECT.parent / "shared/attacks/atomics.json")
LEAST = 0.9

HARMLESS = {
    *("binary_padding", "decode_only", "discovery", "sandbox_discovery", "suid_recon"),
    *("collection_archive", "collection_split"),
}
"""Classes that honest work cannot be told from, or that only look."""

# What an attack of a class is after, in ATT&CK's words; some are after several things.
TACTICS = {
    "account": {"persistence", "privilege-escalation"},
    "c2": {"command-and-control", "exfiltration"},
    "clock": {"defense-evasion"},
    "collection": {"collection", "impact", "exfiltration"},
    "container": {"privilege-escalation"},
    "cred": {"credential-access"},
    "credential": {"credential-access", "discovery", "collection"},
    "decode": {"defense-evasion", "execution"},
    "download": {"command-and-control", "execution"},
    "exfil": {"exfiltration", "command-and-control"},
    "file": {"impact", "defense-evasion"},
    "hidden": {"defense-evasion"},
    "host": {"impact"},
    "kernel": {"persistence", "privilege-escalation", "defense-evasion"},
    "ld": {"persistence", "privilege-escalation", "defense-evasion"},
    "log": {"defense-evasion"},
    "logging": {"defense-evasion"},
    "masquerade": {"defense-evasion"},
    "mass": {"impact"},
    "net": {"command-and-control", "exfiltration", "lateral-movement"},
    "packet": {"credential-access", "discovery", "collection"},
    "persistence": {"persistence", "privilege-escalation", "execution", "defense-evasion"},
    "port": {"discovery"},
    "proxy": {"command-and-control"},
    "script": {"execution"},
    "service": {"impact", "defense-evasion"},
    "shell": {"execution", "defense-evasion"},
    "timestomp": {"defense-evasion"},
}


def runnable() -> list[dict[str, Any]]:
    """Those that can run in the stage: whatever they attempt, it is theirs to lose."""
    if not FILE.exists():
        return []
    found = json.loads(FILE.read_text())["atomics"]
    return [
        one
        for one in found
        if not one["works"].startswith("not run") and not _lacks(f"{one['setup']}{one['command']}")
    ]


def _lacks(text: str) -> bool:
    """Some bring files of their own, which are not here."""
    return "/opt/art/" in text and not Path("/opt/art").exists()


@pytest.fixture(scope="module")
def monitor(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("loads BPF: needs root")
    if not FILE.exists():
        pytest.skip(f"no file of attacks at {FILE}: name one by ATOMICS")
    scratch = tmp_path_factory.mktemp("atomics")
    with private_monitor(scratch, "--listen", "", environ=environ()) as started:
        yield started


@pytest.fixture(scope="module")
def found(monitor, tmp_path_factory):
    """Each attack with the alerts that the stage alone does not raise."""
    ground = tmp_path_factory.mktemp("stages")
    usual = {a["rule"]["id"] for a in perform(monitor, ground / "nothing", "true")}
    results = []
    for number, atomic in enumerate(runnable()):
        alerts = perform(
            monitor,
            ground / f"atomic-{number}",
            atomic["command"],
            before=atomic.get("setup") or "",
            shell=f"/bin/{atomic.get('shell') or 'sh'}",
        )
        told = [a for a in alerts if a["response"] != "log" and a["rule"]["id"] not in usual]
        results.append((atomic, told))
    return results


def tactics(alert: dict[str, Any]) -> set[str]:
    tags = alert["rule"]["tags"]
    return {tag.removeprefix("attack.") for tag in tags if tag.startswith("attack.")}


def is_told(atomic: dict[str, Any], alerts: list[dict[str, Any]]) -> bool:
    wanted = TACTICS[atomic["expected_class"].partition("_")[0]]
    return any(tactics(alert) & wanted for alert in alerts)


def test_attacks_that_do_harm_raise_an_alert_of_the_right_tactic(found, capsys):
    harmful = [one for one in found if one[0]["expected_class"] not in HARMLESS]
    by_class = defaultdict(list)
    for atomic, alerts in harmful:
        by_class[atomic["expected_class"]].append((atomic, alerts, is_told(atomic, alerts)))
    told = sum(ok for some in by_class.values() for _, _, ok in some)
    with capsys.disabled():
        print(f"\natomics: {told} of {len(harmful)} told, of {len(found)} that ran")
        for name, some in sorted(by_class.items()):
            print(f"  {name}: {sum(ok for *_, ok in some)} of {len(some)}")
            for atomic, alerts, ok in some:
                if not ok:
                    titles = ", ".join(alert["rule"]["title"] for alert in alerts) or "nothing"
                    print(f"    missed: {atomic['technique']} {atomic['name']} (told: {titles})")
    assert told >= LEAST * len(harmful)
