# SPDX-License-Identifier: Apache-2.0
"""Alerts, sessions and actions to record."""

from __future__ import annotations

import pytest

from monitor.alerts import (
    Action,
    ActionRecord,
    Alert,
    Level,
    Outcome,
    Response,
    RuleRef,
    SessionRef,
)
from monitor.subjects import Mode, Origin, Session, State


@pytest.fixture
def make_alert():
    def make(number=1, *, session="s1", rule="hosts", level=Level.HIGH, **changed):
        fields = {
            "id": f"a{number}",
            "time": "2026-11-22T12:00:00Z",
            "session": SessionRef(id=session, name=f"name-{session}"),
            "rule": RuleRef(id=rule, title=f"Title of {rule}", level=level),
            "response": Response.FREEZE,
            "outcome": Outcome(action=Action.STOPPING),
            "event": {"category": "file_event", "ktime_ns": 1, "fields": {"Inode": number}},
        }
        return Alert(**{**fields, **changed})

    return make


@pytest.fixture
def make_session():
    def make(session="s1", *, uid=1000, state=State.RUNNING, started="2026-11-22T12:00:00Z"):
        return Session(
            id=session,
            name=f"name-{session}",
            state=state,
            mode=Mode.ENFORCE,
            origin=Origin.LAUNCHED,
            cgroup=f"/sys/fs/cgroup/estop/{session}",
            root_pid=4242,
            uid=uid,
            started=started,
        )

    return make


@pytest.fixture
def make_action():
    def make(number=1, *, session="s1", action=Action.FROZEN, why="looked odd"):
        return ActionRecord(
            id=f"r{number}",
            time="2026-11-22T12:00:00Z",
            session=SessionRef(id=session, name=f"name-{session}"),
            verb="freeze",
            who="uid 0 (root)",
            why=why,
            outcome=Outcome(action=action),
        )

    return make
