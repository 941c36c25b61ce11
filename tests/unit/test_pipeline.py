# SPDX-License-Identifier: Apache-2.0
"""The loop itself: what it does when a stage breaks, and when it is told to stop."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

from stages import Book, Broken, Idle, Matching, Record, Responder, Ring, Tape, joined

from monitor import pipeline
from monitor.events import Verdict


def loop(sessions):
    return joined(Ring(), sessions, None, Responder(), Record())


def test_an_event_that_breaks_a_stage_is_counted_and_the_next_one_is_taken():
    registry = Broken()
    loop(registry).step()
    loop(registry).step()
    assert registry.unjudged == 2


def test_a_flood_does_not_keep_the_monitor_from_stopping(monkeypatch):
    monkeypatch.setattr(pipeline, "_DRAIN_S", 0.05)
    stop = threading.Event()
    stop.set()
    start = time.monotonic()
    loop(Broken()).run(stop)
    assert 0.05 <= time.monotonic() - start < 1


def test_records_are_given_back_once_what_was_recorded_of_them_is_on_disk():
    tape, book = Tape(), Book()
    loop = joined(tape, Idle(), None, None, book)
    loop.step()
    assert tape.given_back == 1
    book.taken = 1
    loop.step()
    loop.step()
    assert tape.given_back == 1
    book.taken = 3
    loop.step()
    book.durable = 1
    loop.step()
    assert tape.given_back == 3
    book.durable = 3
    loop.step()
    assert tape.given_back == 6
    loop.step()
    assert tape.given_back == 7


def test_however_long_the_disk_is_away_marks_do_not_pile_up():
    book = Book()
    book.taken = 1
    loop = joined(Tape(), Idle(), None, None, book)
    for _ in range(100):
        loop.step()
    assert len(loop._held) == 1


def judged(event):
    """Ids of what the responder hears of one observation."""
    heard = []
    responder = SimpleNamespace(respond=lambda _, matches, __: heard.extend(matches))
    loop = joined(Tape(), Idle(), Matching(), responder, Book())
    live = SimpleNamespace(id="s")
    loop._judge(SimpleNamespace(event=event, live=live, facts=["fact"], judged=()))
    return [rule.id for rule, _ in heard]


def test_what_happened_is_correlated_and_what_was_refused_is_not():
    happened = SimpleNamespace(ktime_ns=5, verdict=Verdict.CANDIDATE)
    refused = SimpleNamespace(ktime_ns=5, verdict=Verdict.CANDIDATE | Verdict.REFUSED)
    assert judged(happened) == ["one", "two", "both"]
    assert judged(refused) == ["one", "two"]


def test_an_act_that_was_told_before_the_restart_is_not_told_again():
    answered = []
    responder = SimpleNamespace(respond=lambda _, matches, __: answered.append(matches))
    told = frozenset({("s", 5, "one")})
    loop = joined(Tape(), Idle(), Matching(), responder, Book(), told=told)
    for session, ktime_ns in (("s", 5), ("s", 6), ("t", 5)):
        event = SimpleNamespace(ktime_ns=ktime_ns, verdict=Verdict.PASS)
        live = SimpleNamespace(id=session)
        loop._judge(SimpleNamespace(event=event, live=live, facts=["fact"], judged=()))
    assert [[rule.id for rule, _ in matches] for matches in answered] == [
        ["two", "both"],
        ["one", "two", "both"],
        ["one", "two", "both"],
    ]
