# SPDX-License-Identifier: Apache-2.0
"""`estop selftest`: a harmless violation, for real, through sensor, rule, stop, alert and incident.

A session writes a file with a name that one rule of estop's own stops (rules/agent-safety/
self_test.yml); the session is then killed and the file removed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from monitor.alerts import ActionRecord, Alert
from monitor.cli import show
from monitor.cli.client import Client, RefusedError
from monitor.cli.options import common, print_json
from monitor.control import ActRequest, Health
from monitor.record.queries import IncidentPage, Page
from monitor.subjects import Session

RULE = "6b2f0e0c-6c0e-4a5e-8f8e-5f0c7b5a9d11"
CANARY = "estop-self-test-canary"
_PATIENCE_S = 15.0
_LOOK_S = 0.05


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that has to work. `ms` counts from the act, where that makes sense."""

    name: str
    ok: bool
    detail: str
    ms: float | None = None


@click.command()
@common
def selftest(runtime_dir: Path, *, json_: bool) -> None:
    """Prove that a violation is seen, stopped and told, by a harmless one. Ends with 1 if not."""
    with Client(runtime_dir) as client, tempfile.TemporaryDirectory(prefix="estop-") as scratch:
        steps = list(_steps(client, runtime_dir, Path(scratch)))
    ok = all(step.ok for step in steps)
    if json_:
        print_json({"ok": ok, "steps": steps})
    else:
        rows = [
            (
                s.name,
                "ok" if s.ok else "failed",
                f"{s.ms:.2f}" if s.ms is not None else "",
                s.detail,
            )
            for s in steps
        ]
        show.table(("STEP", "", "MS", ""), rows, "")
        if not ok:
            show.console().print(
                show.plain("not protected as promised: run `estop doctor`", "bold red")
            )
    sys.exit(0 if ok else 1)


def _steps(client: Client, runtime_dir: Path, scratch: Path) -> Iterator[Step]:
    health = client.get("/health", Health)
    told = "; ".join(health.problems) or f"tier {health.tier}, {health.rules} rules"
    yield Step(name="daemon", ok=health.ok, detail=told)
    name = f"estop-selftest-{os.getpid()}"
    agent = _violate(runtime_dir, name, scratch / CANARY)
    try:
        alert = _alert_of(client, name)
        if alert is None:
            yield Step(
                name="rule", ok=False, detail=f"no alert of {name} within {_PATIENCE_S:.0f} s"
            )
            return
        yield from _stop_of(client, alert)
    finally:
        yield from _cleared_up(client, name, agent)


def _violate(runtime_dir: Path, name: str, canary: Path) -> subprocess.Popen[bytes]:
    act = f"open({os.fspath(canary)!r}, 'w'); import time; time.sleep({_PATIENCE_S * 2})"
    command = [sys.executable, "-c", "from monitor.cli.main import main; main()", "run"]
    options = ["--runtime-dir", os.fspath(runtime_dir), "--name", name, "--"]
    return subprocess.Popen(
        [*command, *options, sys.executable, "-c", act],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _alert_of(client: Client, name: str) -> Alert | None:
    """The rule's alert, once evidence says that the stop was carried through."""
    found = None
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        page = client.get("/alerts", Page, session=name, rule=RULE)
        found = page.items[0] if page.items else None
        if found is not None and "evidence" in found.timings_ns:
            return found
        time.sleep(_LOOK_S)
    return found


def _stop_of(client: Client, alert: Alert) -> Iterator[Step]:
    ms = {step: at / 1e6 for step, at in alert.timings_ns.items()}
    verdict = str(alert.event.get("verdict", ""))
    held = {"hold": "held in the kernel", "deny": "refused before it happened"}.get(verdict, "")
    yield Step(
        name="sensor", ok=bool(held), detail=held or "the kernel let it pass", ms=ms.get("held")
    )
    yield Step(name="rule", ok=True, detail=alert.rule.title, ms=ms.get("matched"))
    frozen = alert.outcome.action == "frozen"
    detail = alert.outcome.detail or str(alert.outcome.action)
    yield Step(name="stop", ok=frozen, detail=detail, ms=ms.get("frozen"))
    yield Step(name="alert", ok=True, detail=alert.id)
    stops = client.get("/incidents", IncidentPage, session=alert.session.id).items
    told = stops[0].sentence if stops else "no incident was opened"
    yield Step(name="incident", ok=bool(stops), detail=told)


def _cleared_up(client: Client, name: str, agent: subprocess.Popen[bytes]) -> Iterator[Step]:
    try:
        path = f"{client.path_of(name)}/kill"
        record = client.post(path, ActionRecord, ActRequest(why="the self-test is over"))
        done, detail = record.outcome.action in {"killed", "already_stopped"}, ""
        agent.wait(_PATIENCE_S)
        client.get(client.path_of(name), Session)
    except (RefusedError, subprocess.TimeoutExpired) as error:
        agent.kill()
        done, detail = False, str(error)
    yield Step(name="kill", ok=done, detail=detail or "its session is gone")
