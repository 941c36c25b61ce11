# SPDX-License-Identifier: Apache-2.0
"""Who listens gets what happens from then on, and cannot hold the session up."""

from __future__ import annotations

from monitor.fields import Fact
from monitor.recording import taps as module
from monitor.recording.taps import Taps

FACTS = (Fact(category="dns_query", fields={"QueryName": "example.org"}),)


def times(tap):
    happenings, lost = tap.take()
    return [one.ktime_ns for one in happenings], lost


def test_a_tap_has_what_happens_in_its_session_from_then_on():
    taps = Taps()
    taps.note("a", 1, FACTS)
    first = taps.open("a")
    taps.note("a", 2, FACTS)
    second = taps.open("a")
    taps.note("b", 3, FACTS)
    taps.note("a", 4, FACTS)
    assert times(first) == ([2, 4], 0)
    assert times(second) == ([4], 0)
    assert times(first) == ([], 0)


def test_a_tap_that_was_closed_hears_nothing_more():
    taps = Taps()
    closed, other = taps.open("a"), taps.open("a")
    closed.close()
    closed.close()
    taps.note("a", 1, FACTS)
    assert times(closed) == ([], 0)
    assert times(other) == ([1], 0)


def test_who_does_not_take_loses_what_is_new_and_is_told_how_much(monkeypatch):
    monkeypatch.setattr(module, "_MOST_EVENTS", 2)
    taps = Taps()
    tap = taps.open("a")
    for at in range(5):
        taps.note("a", at, FACTS)
    assert times(tap) == ([0, 1], 3)
    assert times(tap) == ([], 0)


def test_only_some_may_listen_to_one_session():
    taps = Taps()
    opened = [taps.open("a") for _ in range(5)]
    assert opened[-1] is None
    assert taps.open("b") is not None
    opened[0].close()
    assert taps.open("a") is not None
