# SPDX-License-Identifier: Apache-2.0
"""A monitor that starts on a record of many months: what is old goes by itself, what is open stays."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from environment import environ

from agent.private_monitor import private_monitor, until
from monitor.alerts import Action, Alert, Level, Outcome, Response, RuleRef, SessionRef
from monitor.incidents import Incident, Standing
from monitor.record.store import Store
from monitor.subjects import Mode, Origin, Session, State

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


def ago(days: int) -> str:
    time = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    return time.isoformat(timespec="milliseconds")


def recorded(state: Path) -> None:
    """A stop of 100 days ago and one of 10 days ago, both of them over."""
    store = Store(state / "alerts.db")
    for days in (100, 10):
        ref = SessionRef(id=f"s{days}", name=f"s{days}")
        store.save_session(
            Session(
                id=ref.id,
                name=ref.name,
                state=State.KILLED,
                mode=Mode.ENFORCE,
                origin=Origin.LAUNCHED,
                cgroup="/sys/fs/cgroup/none",
                root_pid=2,
                uid=0,
                started=ago(days),
                ended=ago(days),
            )
        )
        store.save_alert(
            Alert(
                id=f"a{days}",
                time=ago(days),
                session=ref,
                rule=RuleRef(id="r", title="Hosts file", level=Level.HIGH),
                response=Response.FREEZE,
                outcome=Outcome(action=Action.FROZEN),
                event={"category": "file_event", "ktime_ns": 1, "fields": {}},
                evidence={"processes": ["x" * 1000] * 1000},
            )
        )
        resolved = ago(days)
        store.save_incident(
            Incident(
                id=f"i{days}",
                session=ref,
                opened=ago(days),
                title="Hosts file",
                level=Level.HIGH,
                cause=f"a{days}",
                state=Standing.RESOLVED,
                resolved=resolved,
                until=resolved,
            )
        )
    assert store.close() == 0


@pytest.mark.parametrize(
    ("keep_days", "left"), [("90", ["10"]), ("0", ["10", "100"]), ("200", ["10", "100"])]
)
def test_what_is_older_than_keep_days_is_gone_and_everything_else_is_there(ground, keep_days, left):
    scratch = ground / f"keep-{keep_days}"
    scratch.mkdir()
    recorded(scratch / "state")

    def there() -> list[list[str]]:
        lists = (
            monitor.get("/alerts")["items"],
            monitor.get("/incidents")["items"],
            monitor.get("/sessions?past=true"),
        )
        return [sorted(item["id"][1:] for item in found) for found in lists]

    with private_monitor(scratch, "--listen", "", environ=environ(keep_days=keep_days)) as monitor:
        assert until(lambda: there() == [left] * 3, 10), there()
        assert not until(lambda: there() != [left] * 3, 1)
        assert monitor.health()["store"]["alerts"] == len(left)
