# SPDX-License-Identifier: Apache-2.0
"""The loop itself: what it does when a stage breaks, and when it is told to stop."""

from __future__ import annotations

import threading
import time
from collections import deque
from types import SimpleNamespace

import pytest

from monitor import pipeline
from monitor.capture import wire
from monitor.capture.wire import Kind
from monitor.events import Verdict
from monitor.metrics import Metrics
from monitor.pipeline import Pipeline
from monitor.sessions.settle import Act, Settling


def record(layout, kind, flags):
    values = {name: 0 for name, _ in layout.members}
    values |= {"header.size": layout.size, "header.kind": kind, "header.flags": flags}
    return layout.packed.pack(*values.values())


def exited(flags=0):
    """A record of the shortest kind."""
    return record(wire.EXIT, Kind.EXIT, flags)


class Ring:
    """A source that always has one record more."""

    behind = True
    flooded = False

    def wait(self, timeout_ms):
        pass

    def read(self, timeout_ms):
        return [exited()]

    def ahead(self):
        return []

    def beat(self):
        pass

    def mark(self):
        return (0, 0)

    def commit(self, mark=None):
        pass


class Record:
    """A record that has everything on disk."""

    taken = durable = 0


class Gate:
    """A gate at which nobody asks."""

    def take(self):
        return []

    def commit(self):
        pass


class Responder:
    """One that holds nobody back."""

    def let_go_on(self, unread=(), *, at_once=False):
        pass


class Broken:
    """Sessions that no event gets through."""

    unjudged = 0

    def __init__(self):
        self.settling = Settling()

    def observe(self, event):
        raise ValueError("embedded null byte")

    def pending(self):
        return []

    def settled(self, now_ns):
        return []


def joined(source, sessions, engine, responder, record, **more):
    """A pipeline whose `sessions` are registry and observer in one."""
    return Pipeline(
        source, sessions, sessions, engine, responder, record, Metrics(), gate=Gate(), **more
    )


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


class Book:
    """A record whose disk is as slow as the test says."""

    taken = 0
    durable = 0


class Tape(Ring):
    """A source that notes what it was given back."""

    def __init__(self):
        self.read_so_far = 0
        self.given_back = 0

    def read(self, timeout_ms):
        self.read_so_far += 1
        return []

    def mark(self):
        return (self.read_so_far,)

    def commit(self, mark=None):
        self.given_back = self.read_so_far if mark is None else mark[0]


class Idle(Broken):
    """Sessions in which nothing happens."""

    def observe(self, event):
        return None


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


class Matching:
    """An engine in which every fact matches two rules."""

    def matches(self, facts):
        return {id_: (SimpleNamespace(id=id_), facts[0]) for id_ in ("one", "two")}

    def correlate(self, ktime_ns, matches):
        return {**matches, "both": (SimpleNamespace(id="both"), ktime_ns)}

    def told(self, matches):
        return matches


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
