# SPDX-License-Identifier: Apache-2.0
"""A disk without room for the record: no alert is lost, what a person orders happens, and that is said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from oneliner import session_id, session_state, started, touch

from agent.private_monitor import Monitor, private_monitor, until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.fixture
def state(ground: Path) -> Iterator[Path]:
    """A state directory on a file system of 16 MiB that is nobody else's."""
    path = ground / "small-disk"
    path.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "none", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)
    path.rmdir()


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """No room for another byte."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def sleeper(monitor: Monitor, name: str) -> Iterator[Path]:
    """The cgroup of a session that sleeps."""
    command = [*monitor.run_command(name), sys.executable, "-c", "import time; time.sleep(600)"]
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, **quiet) as launcher:
        try:
            assert until(lambda: any(s["name"] == name for s in monitor.get("/sessions")), 20)
            yield Path(monitor.session(name)["cgroup"])
        finally:
            monitor.act(name, "kill", "the test is over")
            launcher.wait(20)


def frozen(cgroup: Path) -> bool:
    return "frozen 1" in (cgroup / "cgroup.events").read_text()


def acts(monitor: Monitor, name: str) -> list[tuple[str, str]]:
    found = monitor.get(f"/sessions/{name}/actions")
    return [(act["verb"], act["why"]) for act in found if act["verb"] != "launch"]


def test_who_acts_while_the_disk_is_full_is_obeyed_and_told_that_it_is_not_recorded_yet(
    ground, state
):
    scratch = ground / "full-disk"
    scratch.mkdir()
    with (
        private_monitor(scratch, "--listen", "", state_dir=state) as monitor,
        sleeper(monitor, "sleeper") as cgroup,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=monitor.socket),
            base_url="http://localhost/api/v1/sessions/sleeper",
            timeout=20,
        ) as desk,
    ):
        done = {
            "freeze": lambda: frozen(cgroup),
            "resume": lambda: not frozen(cgroup),
            "kill": lambda: monitor.session("sleeper")["state"] == "killed",
        }
        with full(state):
            for verb, happened in done.items():
                refused = desk.post(f"/{verb}", json={"why": f"{verb}, full"})
                assert refused.status_code == 503, refused.text
                assert refused.headers["content-type"] == "application/problem+json"
                said = refused.json()
                assert said["type"] == "urn:estop:problem:store"
                assert "it is done, but not yet recorded: no space left" in said["detail"]
                assert str(state) in said["mend"]
                assert happened(), verb
            assert acts(monitor, "sleeper") == []
            assert not monitor.health()["ok"]
        expected = [(verb, f"{verb}, full") for verb in done]
        assert until(lambda: acts(monitor, "sleeper") == expected, 20), acts(monitor, "sleeper")
        assert until(lambda: monitor.health()["ok"], 10)
        told = monitor.get("/incidents?session=sleeper")["items"]
        assert [(one["resolution"], one["why"]) for one in told] == [
            ("killed", "kill, full"),
            ("resumed", "resume, full"),
        ]
        assert monitor.health()["store"]["dropped"] == 0
    with private_monitor(scratch, "--listen", "", state_dir=state) as monitor:
        assert acts(monitor, "sleeper") == expected


def test_a_full_disk_loses_no_alert_and_is_said_aloud(scratch, rules):
    state = scratch / "state"
    state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "none", state], check=True)
    try:
        options = ("--listen", "", "--rules", str(rules))
        with private_monitor(scratch, *options, state_dir=state) as monitor:
            filler = state / "filler"
            with filler.open("wb") as file:
                _fill(file.fileno())
            with started(monitor, "late", touch(scratch / "freeze-me")):
                assert until(lambda: session_state(monitor, "late") == "frozen", 20)
                assert until(lambda: not monitor.health()["ok"], 10)
                assert str(state) in " ".join(monitor.health()["problems"])
                session = session_id(monitor, "late")
                filler.unlink()
                assert until(lambda: bool(monitor.alerts(session)), 30)
                assert until(lambda: monitor.health()["ok"], 30), monitor.health()
    finally:
        subprocess.run(["umount", state], check=True)


def _fill(descriptor: int) -> None:
    try:
        while True:
            os.write(descriptor, b"\0" * 4096)
    except OSError:
        return
