# SPDX-License-Identifier: Apache-2.0
"""The loop itself: what it does when a stage breaks, and when it is told to stop."""

from __future__ import annotations

import threading
import time

from monitor import pipeline
from monitor.capture.decode import REHEARSALS
from monitor.metrics import Metrics
from monitor.pipeline import Pipeline
from monitor.sessions.settle import Settling


class Ring:
    """A source that always has one record more."""

    behind = True

    def read(self, timeout_ms):
        return [REHEARSALS[0]]


class Broken:
    """A registry that no event gets through."""

    unjudged = 0

    def __init__(self):
        self.settling = Settling()

    def observe(self, event):
        raise ValueError("embedded null byte")

    def running(self):
        return False

    def pending(self):
        return []

    def settled(self, now_ns):
        return []


def loop(registry):
    return Pipeline(Ring(), registry, None, None, Metrics())


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
