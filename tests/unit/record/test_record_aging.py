# SPDX-License-Identifier: Apache-2.0
"""What is old goes from the record, with all that belongs to it; nothing that is still needed does."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest
from msgspec.structs import replace

from agent.private_monitor import until
from monitor.alerts import Level, SessionRef
from monitor.errors import StoreError
from monitor.incidents import Grant, Incident, Standing
from monitor.record.database import _STEPS
from monitor.record.keeper import Keeper
from monitor.record.store import Store
from monitor.subjects import Done, State

JANUARY, MARCH, JUNE = (f"2026-{month}-01T12:00:00.000+00:00" for month in ("01", "03", "06"))
NOW_S = 1_780_315_200.0  # in June
DAY_S = 86_400


def incident(number=1, *, session="s1", opened=JANUARY, resolved="", **fields):
    return Incident(
        id=f"i{number}",
        session=SessionRef(id=session, name=session),
        opened=opened,
        title="Hosts file",
        level=Level.HIGH,
        state=Standing.RESOLVED if resolved else Standing.OPEN,
        resolved=resolved,
        until=resolved,
        **fields,
    )


def grant(session="s1"):
    ref = SessionRef(id=session, name=session)
    times = {"created": JANUARY, "expires": JANUARY, "expires_s": 0.0}
    return Grant(id=f"g-{session}", session=ref, rule="r", title="T", who="ann", why="", **times)


def forget(store, before=MARCH, living=()):
    assert store.flush()
    removed = 0
    while step := store.forget(before, living):
        removed += step
    return removed


def alerts(store):
    return {alert.id for alert in store.alerts().items}


def incidents(store):
    return {found.id for found in store.incidents().items}


def test_old_alerts_go_and_are_counted_no_more(store, make_alert):
    for number in range(120):
        store.save_alert(make_alert(number, time=JANUARY))
    store.save_alert(make_alert(200, time=MARCH))
    assert forget(store) == 120
    assert alerts(store) == {"a200"}
    assert store.health()["alerts"] == 1
    assert forget(store) == 0


def test_resolved_incidents_go_by_when_they_were_resolved_and_open_ones_stay(store):
    store.save_incident(incident(1))
    store.save_incident(incident(2, session="s2", resolved=JANUARY))
    store.save_incident(incident(3, session="s3", resolved=JUNE))
    forget(store)
    assert incidents(store) == {"i1", "i3"}


def test_the_alerts_of_an_incident_stay_as_long_as_it_does(store, make_alert):
    store.save_alert(make_alert(1, session="open", time=JANUARY))
    store.save_incident(incident(1, session="open"))
    store.save_alert(make_alert(5, session="again", time=JANUARY))
    store.save_incident(incident(5, session="again", after=JANUARY, cause="a5"))
    store.save_alert(make_alert(2, session="late", time=JANUARY))
    store.save_incident(incident(2, session="late", resolved=JUNE))
    store.save_alert(make_alert(3, session="other", time=JANUARY))
    store.save_alert(make_alert(4, session="next", time=JANUARY))
    store.save_incident(incident(4, session="next", after=JANUARY, opened=JUNE))
    forget(store)
    assert alerts(store) == {"a1", "a2", "a5"}
    assert forget(store, "2027") == 2  # a2, with its incident
    assert alerts(store) == {"a1", "a5"}


def test_a_session_goes_last_with_its_actions_and_grants(store, make_session, make_action):
    for number, (name, ended) in enumerate({"gone": JANUARY, "lost": "", "new": JUNE}.items()):
        session = make_session(name, state=State.EXITED, started=JANUARY)
        store.save_session(replace(session, ended=ended))
        store.save_action(make_action(number, session=name))
        store.save_grant(grant(name))
        store.save_memory(name, Done(home="/home/ann"))
    store.save_session(make_session("living", started=JANUARY))
    store.save_session(make_session("stopped", started=JANUARY))
    store.save_incident(incident(session="stopped"))
    assert forget(store, living={"living"}) == 2
    assert {session.id for session in store.sessions()} == {"new", "living", "stopped"}
    assert (store.actions("gone"), store.actions("lost")) == ([], [])
    assert [action.id for action in store.actions("new")] == ["r2"]
    assert [found.id for found in store.grants()] == ["g-new"]
    assert store.memory("gone", Done) is None
    assert store.memory("new", Done) == Done(home="/home/ann")


def test_a_number_that_a_follower_may_hold_is_not_given_again(store, make_alert, directory):
    for number in range(3):
        store.save_alert(make_alert(number, time=JANUARY))
    forget(store)
    store.close()
    again = Store(directory / "alerts.db")
    again.save_alert(make_alert(7))
    assert again.flush()
    assert [alert.id for alert in again.alerts(since=3).items] == ["a7"]
    again.close()


def size(directory):
    return sum(file.stat().st_size for file in directory.iterdir())


def filled(store, make_alert):
    for number in range(100):
        store.save_alert(make_alert(number, time=JANUARY, evidence={"x": "y" * 100_000}))
    assert store.flush()


def shrink(store):
    steps = 1
    while store.shrink():
        steps += 1
    return steps


def test_the_files_shrink_step_by_step(store, make_alert, directory):
    filled(store, make_alert)
    before = size(directory)
    assert before > 10_000_000
    forget(store)
    assert 5 < shrink(store) < 50
    assert size(directory) < 200_000
    store.save_alert(make_alert(1))
    assert store.flush()
    assert alerts(store) == {"a1"}


def test_a_reader_does_not_make_a_shrinking_file_wait(store, make_alert, directory):
    filled(store, make_alert)
    forget(store)
    with closing(sqlite3.connect(directory / "alerts.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM alerts").fetchone()
        start = time.monotonic()
        shrink(store)
        assert time.monotonic() - start < 2
    for number in range(2):
        store.save_alert(make_alert(number))
        assert store.flush()
    assert alerts(store) == {"a0", "a1"}


def test_a_file_of_an_older_version_can_shrink_too(directory, make_alert):
    directory.mkdir(mode=0o700)
    with closing(sqlite3.connect(directory / "alerts.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for step in _STEPS[:2]:
            connection.executescript(step)
        connection.execute("PRAGMA user_version = 2")
        connection.commit()
    store = Store(directory / "alerts.db")
    filled(store, make_alert)
    forget(store)
    shrink(store)
    assert size(directory) < 200_000
    store.close()


def test_a_file_that_cannot_shrink_is_not_tried_without_end(store, make_alert):
    store._database._connection.execute("PRAGMA auto_vacuum = NONE")
    store._database._connection.execute("VACUUM")
    filled(store, make_alert)
    forget(store)
    assert shrink(store) == 1


# The keeper -----------------------------------------------------------------------------------------


@pytest.fixture
def keep(store):
    """A keeper that looks all the time, and its clocks."""
    clocks = {"wall": NOW_S, "steady": 1000.0}
    started = []

    def start(keep_days, living=()):
        keeper = Keeper(
            store,
            keep_days=keep_days,
            living=lambda: living,
            every_s=0.01,
            wall=lambda: clocks["wall"],
            steady=lambda: clocks["steady"],
        )
        started.append(keeper)
        return clocks

    yield start
    for keeper in started:
        keeper.close()


def test_what_is_older_than_so_many_days_goes_while_the_days_pass(store, make_alert, keep):
    store.save_alert(make_alert(1, time=JANUARY))
    store.save_alert(make_alert(2, time=MARCH))
    assert store.flush()
    clocks = keep(100)
    assert until(lambda: alerts(store) == {"a2"}, 5)
    clocks["wall"] += 9 * DAY_S
    clocks["steady"] += 9 * DAY_S
    assert until(lambda: alerts(store) == set(), 5)


def test_nothing_goes_where_everything_is_kept(store, make_alert, keep):
    store.save_alert(make_alert(1, time=JANUARY))
    assert store.flush()
    keep(0)
    assert not until(lambda: not alerts(store), 0.3)


def test_a_clock_that_is_set_forward_empties_nothing(store, make_alert, keep):
    store.save_alert(make_alert(1, time=MARCH))
    assert store.flush()
    clocks = keep(100)
    clocks["wall"] += 1000 * DAY_S
    assert not until(lambda: not alerts(store), 0.3)


def test_a_disk_that_refuses_is_tried_again(store, make_alert, keep, monkeypatch, caplog):
    store.save_alert(make_alert(1, time=JANUARY))
    assert store.flush()
    forget_for_real, refusals = store.forget, iter(range(2))

    def forget(before, living):
        if next(refusals, None) is not None:
            raise StoreError("no space left", mend="free some")
        return forget_for_real(before, living)

    monkeypatch.setattr(store, "forget", forget)
    keep(100)
    assert until(lambda: not alerts(store), 5)
    assert caplog.text.count("free some") == 2
