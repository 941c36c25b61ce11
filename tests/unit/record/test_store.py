# SPDX-License-Identifier: Apache-2.0
"""What is saved can be read back, in order, by every filter, after a restart too."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest
from msgspec.structs import replace

from monitor.alerts import Action, Level, Outcome, Response, RuleRef, SessionRef
from monitor.errors import ConfigError, StoreError
from monitor.metrics import Metrics
from monitor.record.database import _STEPS, Row
from monitor.record.encode import to_json
from monitor.record.store import Store
from monitor.subjects import State


def ids(page):
    return [alert.id for alert in page.items]


def save(store, *alerts):
    for alert in alerts:
        assert store.save_alert(alert)
    assert store.flush()


def test_an_alert_comes_back_equal_after_a_restart(directory, make_alert):
    alert = make_alert(evidence={"tree": [{"pid": 1}]}, timings_ns={"frozen": 12})
    first = Store(directory / "alerts.db")
    first.save_alert(alert)
    assert first.close() == 0
    second = Store(directory / "alerts.db")
    assert second.alert("a1") == alert
    assert second.health()["alerts"] == 1
    second.close()


def test_a_later_state_of_an_alert_replaces_the_earlier_one(store, make_alert):
    save(store, make_alert(1), make_alert(2))
    frozen = make_alert(1, outcome=Outcome(action=Action.FROZEN))
    save(store, frozen)
    assert store.alert("a1") == frozen
    assert store.health()["alerts"] == 2


def test_history_keeps_the_order_of_first_appearance(store, make_alert):
    save(store, make_alert(1), make_alert(2), make_alert(3))
    save(store, make_alert(1, outcome=Outcome(action=Action.FROZEN)))
    assert ids(store.alerts()) == ["a3", "a2", "a1"]


def test_a_follower_sees_a_changed_alert_again(store, make_alert):
    save(store, make_alert(1), make_alert(2))
    cursor = store.alerts(since=0).next
    save(store, make_alert(1, outcome=Outcome(action=Action.FROZEN)))
    page = store.alerts(since=cursor)
    assert ids(page) == ["a1"]
    assert page.items[0].outcome.action is Action.FROZEN


def test_a_follower_with_nothing_new_keeps_its_cursor(store, make_alert):
    save(store, make_alert(1))
    assert store.alerts(since=1).next == 1
    assert store.alerts(since=1).items == []


def test_pages_back_through_history_neither_repeat_nor_skip(store, make_alert):
    save(store, *(make_alert(number) for number in range(1, 8)))
    seen, before = [], None
    while True:
        page = store.alerts(before=before, limit=3)
        seen += ids(page)
        before = page.next
        if before is None:
            break
    assert seen == [f"a{number}" for number in range(7, 0, -1)]


def test_seq_goes_on_after_a_restart(directory, make_alert):
    first = Store(directory / "alerts.db")
    save(first, make_alert(1), make_alert(2))
    first.close()
    second = Store(directory / "alerts.db")
    save(second, make_alert(3))
    assert second.seq == 3
    assert ids(second.alerts(since=2)) == ["a3"]
    second.close()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"session": "s2"}, ["a2"]),
        ({"session": "name-s2"}, ["a2"]),
        ({"rule": "payment"}, ["a3"]),
        ({"level": Level.HIGH}, ["a3", "a2"]),
        ({"level": Level.INFORMATIONAL}, ["a3", "a2", "a1"]),
        ({"response": Response.KILL}, ["a3"]),
        ({"action": Action.LOGGED}, ["a1"]),
        ({"text": "/etc/HOSTS"}, ["a2"]),
        ({"text": "100%"}, ["a1"]),
        ({"text": "file_event"}, ["a3", "a2", "a1"]),
        ({"text": "a_b"}, []),
        ({"level": Level.HIGH, "session": "s1"}, ["a3"]),
    ],
)
def test_a_filter_keeps_what_it_names_and_nothing_else(store, make_alert, filters, expected):
    def event(text):
        return {"category": "file_event", "ktime_ns": 1, "fields": {"TargetFilename": text}}

    save(
        store,
        make_alert(
            1, level=Level.LOW, outcome=Outcome(action=Action.LOGGED), event=event("/100% azb")
        ),
        make_alert(2, session="s2", event=event("/etc/hosts.1000")),
        make_alert(3, rule="payment", level=Level.CRITICAL, response=Response.KILL),
    )
    assert ids(store.alerts(**filters)) == expected


def test_a_user_sees_only_alerts_of_own_sessions(store, make_alert, make_session):
    store.save_session(make_session("s1", uid=1000))
    store.save_session(make_session("s2", uid=1001))
    save(store, make_alert(1), make_alert(2, session="s2"), make_alert(3, session="unrecorded"))
    assert ids(store.alerts(uid=1000)) == ["a1"]
    assert store.alert("a2", uid=1000) is None
    assert store.alert("a2", uid=1001) is not None
    assert ids(store.alerts(uid=0)) == []


def test_a_session_is_recorded_as_last_seen(store, make_session):
    store.save_session(make_session("s1", started="2026-11-22T12:00:00Z"))
    store.save_session(make_session("s2", started="2026-11-22T13:00:00Z"))
    store.save_session(make_session("s1", state=State.FROZEN))
    assert store.flush()
    assert [(s.id, s.state) for s in store.sessions()] == [
        ("s2", State.RUNNING),
        ("s1", State.FROZEN),
    ]


def test_actions_keep_who_and_why_in_order(store, make_action):
    store.save_action(make_action(1, action=Action.STOPPING))
    store.save_action(make_action(2, why="all is well"))
    store.save_action(make_action(1, action=Action.FROZEN))
    store.save_action(make_action(3, session="s2"))
    assert store.flush()
    assert [(a.id, a.why, a.outcome.action) for a in store.actions("s1")] == [
        ("r1", "looked odd", Action.FROZEN),
        ("r2", "all is well", Action.FROZEN),
    ]


def test_undecodable_bytes_in_an_alert_are_spelt_out_everywhere(store, make_alert):
    alert = make_alert(
        session="s1",
        rule="hosts",
        event={"fields": {"TargetFilename": "/tmp/\udcff", "\udcfe": 1}},
        evidence={"argv": ["\udcc3(", "\x1b[2J\n"]},
    )
    alert = type(alert)(
        **{
            **{name: getattr(alert, name) for name in alert.__struct_fields__},
            "session": SessionRef(id="s1", name="n\udc80"),
            "rule": RuleRef(id="hosts", title="t", level=Level.HIGH),
        }
    )
    save(store, alert)
    found = store.alert("a1")
    assert found.event["fields"] == {"TargetFilename": r"/tmp/\xff", r"\xfe": 1}
    assert found.evidence == {"argv": [r"\xc3(", "\x1b[2J\n"]}
    assert found.session.name == r"n\x80"
    assert ids(store.alerts(text=r"/tmp/\xff")) == ["a1"]
    assert ids(store.alerts(session=r"n\x80")) == ["a1"]


def test_what_is_saved_does_not_change_with_the_callers_dict(store, make_alert):
    event = {"fields": {"TargetFilename": "/etc/hosts"}}
    store.save_alert(make_alert(event=event))
    event["fields"]["TargetFilename"] = "/innocent"
    assert store.flush()
    assert store.alert("a1").event["fields"]["TargetFilename"] == "/etc/hosts"


def test_a_subscriber_hears_of_an_alert_once_it_can_be_read(store, make_alert):
    heard, done = [], threading.Event()

    def listen(seq):
        heard.append((seq, ids(store.alerts(since=seq - 1))))
        done.set()

    store.subscribe(listen)
    store.save_alert(make_alert(1))
    assert done.wait(5)
    store.unsubscribe(listen)
    save(store, make_alert(2))
    assert heard == [(1, ["a1"])]


def test_a_failing_subscriber_stops_neither_the_record_nor_the_others(store, make_alert, caplog):
    heard = threading.Event()

    def fail(seq):
        raise RuntimeError("listener gone")

    store.subscribe(fail)
    store.subscribe(lambda seq: heard.set())
    save(store, make_alert(1))
    assert heard.wait(5)
    save(store, make_alert(2))
    assert "listener gone" in caplog.text


def test_the_files_are_private(directory, store, make_alert):
    save(store, make_alert())
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_a_directory_that_others_may_write_is_refused_by_name(directory):
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(ConfigError, match=str(directory)) as caught:
        Store(directory / "alerts.db")
    assert str(directory) in caught.value.mend


def test_a_file_that_is_no_database_is_refused_by_name_and_kept(directory):
    directory.mkdir(mode=0o700)
    path = directory / "alerts.db"
    path.write_text("not a database, but somebody's file" * 100)
    with pytest.raises(StoreError, match=str(path)) as caught:
        Store(path)
    assert "move" in caught.value.mend
    assert path.read_text().startswith("not a database")


def test_a_database_of_a_newer_estop_is_refused_by_version(directory, store):
    store.close()
    with sqlite3.connect(directory / "alerts.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="version 99"):
        Store(directory / "alerts.db")


def test_a_full_queue_refuses_counts_and_does_not_wait(directory, make_alert):
    metrics = Metrics()
    store = Store(directory / "alerts.db", metrics=metrics, capacity_rows=3)
    hold, held = threading.Event(), threading.Event()
    store.subscribe(lambda seq: (held.set(), hold.wait(5)))
    store.save_alert(make_alert(0))
    assert held.wait(5)
    # One row is in the commit that is held up, so two more have room.
    taken = [store.save_alert(make_alert(number)) for number in range(1, 5)]
    assert taken == [True, True, False, False]
    assert store.health()["dropped"] == 2
    assert b"estop_store_dropped_total 2.0" in metrics.exposition()
    newer = make_alert(1, outcome=Outcome(action=Action.FROZEN))
    assert store.save_alert(newer), "a newer state of a row that waits needs no room"
    hold.set()
    assert store.close() == 0
    again = Store(directory / "alerts.db")
    assert ids(again.alerts()) == ["a2", "a1", "a0"]
    assert again.alert("a1") == newer
    again.close()


def test_a_row_is_durable_once_it_is_on_disk_and_not_before(store, make_alert):
    hold, held = threading.Event(), threading.Event()
    store.subscribe(lambda seq: (held.set(), hold.wait(5)))
    assert (store.taken, store.durable) == (0, 0)
    store.save_alert(make_alert(0))
    assert held.wait(5)
    store.save_alert(make_alert(1))
    store.save_alert(make_alert(0, outcome=Outcome(action=Action.FROZEN)))
    assert (store.taken, store.durable) == (3, 0)
    hold.set()
    assert store.flush()
    assert (store.taken, store.durable) == (3, 3)


def test_what_was_told_is_known_by_session_act_and_rule(store, make_alert):
    alert = make_alert(event={"category": "x", "ktime_ns": 2**60 + 1, "fields": {}})
    save(store, alert)
    assert store.told() == {(alert.session.id, 2**60 + 1, alert.rule.id)}


def test_the_queue_is_bounded_in_bytes_too(directory, make_alert):
    store = Store(directory / "alerts.db", capacity_bytes=10_000)
    assert not store.save_alert(make_alert(evidence={"events": "x" * 20_000}))
    assert store.health()["dropped"] == 1
    store.close()


def test_a_closed_store_takes_nothing_and_says_so(store, make_alert):
    assert store.close() == 0
    assert store.save_alert(make_alert()) is False
    assert store.health()["dropped"] == 1


def test_a_row_that_cannot_be_written_does_not_keep_the_others_out(store, make_alert, caplog):
    hold, held = threading.Event(), threading.Event()
    store.subscribe(lambda seq: (held.set(), hold.wait(5)))
    store.save_alert(make_alert(0))
    assert held.wait(5)
    store.save_alert(make_alert(1))
    store._writer.offer(Row("alerts", "bad", {"json": b"", "words": ""}))
    store.save_alert(make_alert(2))
    hold.set()
    assert store.flush()
    assert ids(store.alerts()) == ["a2", "a1", "a0"]
    assert store.health()["dropped"] == 1
    assert "a row of alerts could not be written" in caplog.text


def test_a_database_of_the_version_before_is_brought_up_with_all_its_alerts(directory, make_alert):
    directory.mkdir(mode=0o700)
    rule = RuleRef(id="r", title="T", level=Level.HIGH, tags=("attack.impact", "attack.t1486"))
    old = replace(make_alert(1), rule=rule)
    with closing(sqlite3.connect(directory / "alerts.db")) as connection:
        connection.executescript(_STEPS[0])
        connection.execute(
            "INSERT INTO alerts (id, seq, born, session, session_name, rule, level, response,"
            " action, words, json) VALUES ('a1', 7, 7, 's1', 'n', 'r', 3, 'freeze', 'frozen', '', ?)",
            (to_json(old),),
        )
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    store = Store(directory / "alerts.db")
    assert store.seq == 7
    assert [a.id for a in store.alerts(tactic="impact").items] == ["a1"]
    assert [a.id for a in store.alerts(after=old.time).items] == ["a1"]
    assert store.alerts(tactic="t1").items == []
    store.save_alert(make_alert(2))
    store.flush()
    assert store.seq == 8
    store.close()


def test_what_was_saved_is_settled_once_it_is_on_disk(store, make_alert):
    store.save_alert(make_alert())
    store.settle()
    assert store.alert("a1")


def test_what_cannot_be_written_is_not_called_settled(store, make_alert, monkeypatch):
    def refuse(_rows):
        raise StoreError("no space left", mend="free some")

    monkeypatch.setattr(store._writer, "_commit", refuse)
    store.save_alert(make_alert())
    with pytest.raises(StoreError, match="no space left"):
        store.settle(0.2)


def test_evidence_is_not_lost_to_a_newer_state_that_overtakes_it_in_the_queue(
    store, make_alert, monkeypatch
):
    commit, waits = store._writer._commit, threading.Event()
    monkeypatch.setattr(store._writer, "_commit", lambda rows: waits.wait() and commit(rows))
    store.save_alert(make_alert(1))
    store.save_alert(make_alert(2, evidence={"processes": [1]}))
    store.save_alert(make_alert(2))
    waits.set()
    store.settle()
    assert store.alert("a2").evidence == {"processes": [1]}
