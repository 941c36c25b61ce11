# SPDX-License-Identifier: Apache-2.0
"""What a pipeline is joined of where one stage alone is looked at: the others do next to nothing."""

from __future__ import annotations

from types import SimpleNamespace

from monitor.capture import wire
from monitor.capture.wire import Kind
from monitor.metrics import Metrics
from monitor.pipeline import Pipeline
from monitor.sessions.settle import Settling


def record(layout, kind, flags, slot=0):
    values = {name: 0 for name, _ in layout.members}
    values |= {"header.size": layout.size, "header.kind": kind, "header.flags": flags}
    values["header.session"] = slot
    return layout.packed.pack(*values.values())


def exited(flags=0, slot=0):
    """A record of the shortest kind."""
    return record(wire.EXIT, Kind.EXIT, flags, slot)


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


class Matching:
    """An engine in which every fact matches two rules."""

    def matches(self, facts):
        return {id_: (SimpleNamespace(id=id_), facts[0]) for id_ in ("one", "two")}

    def correlate(self, ktime_ns, matches):
        return {**matches, "both": (SimpleNamespace(id="both"), ktime_ns)}

    def told(self, matches):
        return matches


def joined(source, sessions, engine, responder, record, **more):
    """A pipeline whose `sessions` are registry and observer in one."""
    return Pipeline(
        source, sessions, sessions, engine, responder, record, Metrics(), gate=Gate(), **more
    )
