# SPDX-License-Identifier: Apache-2.0
"""Who waits, or stands still, until he is judged: in which order the loop does what."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import pytest
from stages import Book, Broken, Idle, Matching, Record, Ring, Tape, exited, joined, record

from monitor.capture import wire
from monitor.capture.wire import Kind
from monitor.events import Verdict
from monitor.sessions.settle import Act


class Asking(Broken):
    """One session, which asks before it acts."""

    def __init__(self):
        super().__init__()
        self.live = SimpleNamespace(unjudged=0)

    def live_in(self, slot):
        return self.live

    def consider(self, event):
        return SimpleNamespace(event=event, live=self.live, facts=("fact",), judged=())

    def keep(self, event, live):
        pass


class Judge:
    """A responder that refuses, or not, and remembers what it was told to do."""

    def __init__(self, *, refuse):
        self.refuse = refuse
        self.did = []

    def refuses(self, live, matches):
        return self.refuse

    def respond(self, observation, matches, received_ns):
        self.did.append(("respond", observation.event.verdict.word))

    def forbid(self, event):
        self.did.append("forbid")

    def answer(self, live, event):
        self.did.append("answer")


class Questions(Ring):
    """Records of acts that wait to happen."""

    def read(self, timeout_ms):
        return [exited(flags=wire.CANDIDATE | wire.STOPPED | wire.BEFORE)]


def asked(judge):
    registry = Asking()
    rule = SimpleNamespace(id="rule")
    engine = SimpleNamespace(
        matches=lambda facts: {"rule": (rule, next(iter(facts)))}, told=lambda matches: matches
    )
    joined(Questions(), registry, engine, judge, Record()).step()
    assert registry.unjudged == 0
    return judge.did


def test_what_waits_to_happen_and_is_refused_is_told_as_denied_and_forbidden_before_the_answer():
    assert asked(Judge(refuse=True)) == [("respond", "deny"), "forbid", "answer"]


def test_what_waits_to_happen_and_is_let_go_on_is_no_event_yet():
    assert asked(Judge(refuse=False)) == ["answer"]


def test_an_act_that_waits_and_breaks_the_stages_is_noted_for_who_decides_about_it():
    class Breaking(Judge):
        def respond(self, observation, matches, received_ns):
            raise ValueError("embedded null byte")

    registry = Asking()
    engine = SimpleNamespace(
        matches=lambda facts: {"rule": (SimpleNamespace(id="rule"), "fact")}, told=dict
    )
    loop = joined(Questions(), registry, engine, Breaking(refuse=True), Record())
    loop.step()
    assert (registry.unjudged, registry.live.unjudged) == (1, 1)


class Containing(Judge):
    def __init__(self):
        super().__init__(refuse=False)

    def contain(self, live):
        self.did.append("contain")


@pytest.mark.parametrize(
    ("kind", "flags", "contained"),
    [
        (Kind.OPEN, wire.CANDIDATE | wire.CERTAIN, True),
        (Kind.OPEN, wire.CANDIDATE | wire.CERTAIN | wire.REFUSED, True),
        (Kind.OPEN, wire.CANDIDATE | wire.STOPPED, False),
        (Kind.RENAME, wire.CANDIDATE | wire.STOPPED, True),
        (Kind.CHMOD, wire.CANDIDATE, True),
        (Kind.RENAME, wire.CANDIDATE | wire.STOPPED | wire.BEFORE, False),
        (Kind.RENAME, 0, False),
    ],
)
def test_who_stands_still_while_he_is_judged(kind, flags, contained):
    class One(Ring):
        def read(self, timeout_ms):
            return [record(wire.OPEN if kind is Kind.OPEN else wire.NAME, kind, flags)]

    responder = Containing()
    loop = joined(One(), Asking(), None, responder, Record())
    loop.step()
    assert (responder.did[:1] == ["contain"]) is contained


def test_who_acts_while_others_are_judged_stands_still_before_they_all_are():
    """A batch takes some milliseconds, and an alarm came once it had been read."""
    certain = record(wire.OPEN, Kind.OPEN, wire.CANDIDATE | wire.CERTAIN)

    class Batch(Ring):
        def __init__(self):
            self.coming = [[], [certain]]

        def read(self, timeout_ms):
            return [exited() for _ in range(4)]

        def ahead(self):
            return self.coming.pop(0) if self.coming else []

    did = []

    class Counting(Asking):
        def observe(self, event):
            did.append(type(event).__name__)

    class Stopping(Containing):
        def contain(self, live):
            did.append("contain")

    joined(Batch(), Counting(), None, Stopping(), Record()).step()
    assert did == ["Exited", "contain", "Exited", "Exited", "Exited"]


def test_what_rules_said_of_an_act_before_they_do_not_say_again():
    class Engine(Matching):
        def matches(self, facts):
            return {id_: m for id_, m in super().matches(facts).items() if id_ in facts}

    heard = []
    responder = SimpleNamespace(respond=lambda _, matches, __: heard.extend(matches))
    loop = joined(Tape(), Idle(), Engine(), responder, Book())
    event = SimpleNamespace(ktime_ns=5, verdict=Verdict.REFUSED)
    facts = {"facts": ("one", "two"), "judged": ("one",)}
    loop._judge(SimpleNamespace(event=event, live=SimpleNamespace(id="s"), **facts))
    assert [rule.id for rule, _ in heard] == ["two"]


def test_whose_act_is_judged_in_part_stands_still_before_it_is_answered():
    did = []

    class Partly(Idle):
        def __init__(self):
            super().__init__()
            self.live = SimpleNamespace(id="s", slot=1, unjudged=0)

        def live_in(self, slot):
            return self.live

        def observe(self, event):
            self.settling.defer(Act(event, self.live, None, (), deque()))
            return SimpleNamespace(event=event, live=self.live, facts=(), judged=())

        def remember(self, observation, labels):
            pass

    responder = SimpleNamespace(
        hold_back=lambda live: did.append(("held back", live.id)),
        answer=lambda live, event: did.append(("answered", live.id)),
        respond=lambda *_: None,
    )
    loop = joined(Tape(), Partly(), SimpleNamespace(matches=lambda _: {}, correlate=lambda *_: {}),
                  responder, Book())  # fmt: skip
    loop._take(SimpleNamespace(ktime_ns=5, slot=1, verdict=Verdict.CANDIDATE))
    assert did == [("held back", "s"), ("answered", "s")]
