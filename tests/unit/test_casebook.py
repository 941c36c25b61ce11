# SPDX-License-Identifier: Apache-2.0
"""An incident opens once for a stop, keeps what people said, and closes once."""

from __future__ import annotations

import msgspec
import pytest

from monitor.alerts import Action, Alert, Level, Outcome, Response, RuleRef, SessionRef
from monitor.casebook import Casebook
from monitor.errors import RecordNotFoundError
from monitor.incidents import Resolution

SESSION = SessionRef(id="s", name="helper")


@pytest.fixture
def book(store):
    return Casebook(store)


def alert(alert_id="a", level=Level.MEDIUM):
    return Alert(
        id=alert_id,
        time="",
        session=SESSION,
        rule=RuleRef(id="r", title=f"Rule of {alert_id}", level=level),
        response=Response.FREEZE,
        outcome=Outcome(action=Action.FROZEN),
        event={},
    )


def incidents(store):
    store.settle()
    return store.incidents().items


def test_a_second_stop_is_part_of_the_first_and_may_be_worse(book, store):
    book.stopped(alert("a"), "First.")
    book.stopped(alert("b", Level.CRITICAL), "Second.")
    book.stopped(alert("c", Level.LOW), "Third.")
    (only,) = incidents(store)
    assert (only.cause, only.sentence, only.level) == ("a", "First.", Level.CRITICAL)


def test_it_closes_once_and_the_first_word_stands(book, store):
    book.stopped(alert(), "x")
    with book.deciding("s", Resolution.KILLED, who="ann", why="enough"):
        book.resolved("s", Resolution.KILLED)
    book.ended("s")
    (only,) = incidents(store)
    assert (only.resolution, only.resolved_by, only.why) == ("killed", "ann", "enough")
    assert not book.is_open("s")


def test_the_next_one_begins_where_the_last_one_ended_even_after_a_restart(book, store):
    book.stopped(alert("a"), "x")
    book.resolved("s", Resolution.RESUMED)
    store.settle()
    restarted = Casebook(store)
    restarted.remember("s")
    restarted.stopped(alert("b"), "y")
    new, old = incidents(store)
    assert new.after == old.until == old.resolved != ""


def test_an_open_one_is_still_open_after_a_restart_unless_its_session_is_gone(book, store):
    book.stopped(alert(), "x")
    store.settle()
    restarted = Casebook(store)
    assert restarted.is_open("s")
    restarted.keep_only({"s"})
    assert restarted.is_open("s")
    restarted.keep_only(set())
    assert incidents(store)[0].resolution == "ended"


def test_what_a_person_says_is_kept_before_and_after_the_end(book, store):
    book.stopped(alert(), "x")
    (opened,) = incidents(store)
    book.acknowledge(opened.id, who="ann", why="on it")
    book.resolved("s", Resolution.RESUMED)
    book.assign(opened.id, "bob", who="ann")
    (only,) = incidents(store)
    assert (only.care.by, only.care.why, only.care.assignee) == ("ann", "on it", "bob")
    assert only.resolution == "resumed"


def test_nobody_can_look_after_what_never_was(book):
    with pytest.raises(RecordNotFoundError):
        book.acknowledge("none", who="ann", why="")


def test_a_person_who_stops_a_stopped_session_does_not_change_why_it_was(book, store):
    book.stopped(alert(), "The rule.")
    book.stopped_by(SESSION, "ann", "Ann.")
    assert incidents(store)[0].sentence == "The rule."


def test_evidence_of_a_stop_by_a_person_is_kept_with_it(book, store):
    book.stopped_by(SESSION, "ann", "Ann.", {"processes": [1]})
    book.resolved("s", Resolution.RESUMED)
    (only,) = incidents(store)
    assert store.incident(only.id)[1] == {"processes": [1]}
    assert msgspec.json.decode(msgspec.json.encode(only), type=type(only)) == only


def test_whoever_sees_the_end_first_tells_what_was_decided(book, store):
    book.stopped(alert(), "x")
    with book.deciding("s", Resolution.KILLED, who="ann", why="enough"):
        book.ended("s")
        book.resolved("s", Resolution.KILLED)
    (only,) = incidents(store)
    assert (only.resolution, only.resolved_by) == ("killed", "ann")


def test_what_was_decided_and_did_not_come_about_is_not_told(book, store):
    book.stopped(alert(), "x")
    with book.deciding("s", Resolution.KILLED, who="ann"):
        pass
    book.ended("s")
    assert incidents(store)[0].resolution == "ended"
