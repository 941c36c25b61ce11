# SPDX-License-Identifier: Apache-2.0
"""What follows a stop on a thread of its own: nothing keeps it from the kill, or is kept from the log."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from monitor.casebook import Casebook
from monitor.metrics import Metrics
from monitor.record.store import Store
from monitor.responder import Responder
from monitor.response.killswitch import StopReport
from monitor.sessions.live import LiveSession
from monitor.subjects import Mode, Origin, State


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "state" / "alerts.db")
    yield opened
    opened.close()


@pytest.fixture
def live(tmp_path):
    return LiveSession(
        id="s", slot=1, name="a", mode=Mode.ENFORCE, origin=Origin.LAUNCHED, cgroup=tmp_path,
        root_pid=1, uid=0, history_events=1,
    )  # fmt: skip


@pytest.fixture
def killed():
    return []


@pytest.fixture
def finish(store, killed, live):
    def kill(target):
        killed.append(target.id)
        target.state = State.KILLED
        return StopReport(done=True, steps_ns={})

    def confirm(target, begun):
        raise RuntimeError("no room for a thread")

    responder = Responder(
        SimpleNamespace(kill=kill, confirm=confirm),
        None,
        store,
        Metrics(),
        None,
        None,
        None,
        Casebook(store),
    )
    yield lambda alerts, begun=None: responder._workers.submit(
        responder._follow, live, begun, alerts, 0, kill=True
    ).result(10)
    responder.close()


def test_evidence_that_cannot_be_taken_keeps_nobody_alive(finish, live, killed):
    live.cgroup = Path("a\0b")
    live.history = SimpleNamespace(__iter__=None)
    finish([])
    assert killed == ["s"]
    assert live.state is State.KILLED


def test_what_goes_wrong_after_a_stop_is_logged(finish):
    with capture_logs() as logs:
        finish([SimpleNamespace(rule=SimpleNamespace(title="Hosts"))])
    [line] = [line for line in logs if line["event"] == "stop.unfinished"]
    assert line["session"] == "s"
    assert line["exc_info"]


def test_a_freeze_that_cannot_be_confirmed_keeps_nobody_alive(finish, live, killed):
    with capture_logs() as logs:
        finish([], StopReport(done=False, steps_ns={}))
    assert killed == ["s"]
    assert live.state is State.KILLED
    assert "stop.unconfirmed" in {line["event"] for line in logs}
