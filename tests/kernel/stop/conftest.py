# SPDX-License-Identifier: Apache-2.0
"""A responder with a record, over a real session."""

from __future__ import annotations

import time

import pytest

from monitor.alerts import Level, Response, Rule
from monitor.casebook import Casebook
from monitor.events import Event, Verdict, View
from monitor.fields import Fact
from monitor.metrics import Metrics
from monitor.record.store import Store
from monitor.responder import Responder
from monitor.response.grants import Grants
from monitor.response.policy import Disarmer
from monitor.sessions.live import LiveSession
from monitor.sessions.observer import Observation
from monitor.subjects import Mode, Origin


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "state" / "alerts.db")
    yield opened
    opened.close()


@pytest.fixture
def book(store):
    return Casebook(store)


@pytest.fixture
def live(inside, puppet):
    return LiveSession(
        id=inside.id, slot=inside.slot, name="helper", mode=Mode.ENFORCE, origin=Origin.ATTACHED,
        cgroup=inside.cgroup, root_pid=puppet.pid, uid=0, history_events=10,
    )  # fmt: skip


@pytest.fixture
def responder(kernel, killswitch, holds, store, book):
    made = Responder(
        killswitch,
        Disarmer(limit=5, window_ns=10**12),
        store,
        Metrics(),
        kernel.egress_bytes,
        holds,
        Grants(kernel.grant),
        book,
    )
    yield made
    made.close()


@pytest.fixture
def forbidden(live, responder):
    """The session did what a rule stops: one that freezes, or that kills."""

    def act(response=Response.FREEZE):
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        event = Event(
            ktime_ns=now_ns, egress_bytes=0, slot=live.slot, tgid=live.root_pid,
            tid=live.root_pid, uid=0, view=View(0, 0), cut=False, verdict=Verdict.PASS,
        )  # fmt: skip
        fact = Fact(category="file_event", fields={"TargetFilename": "/etc/hosts"})
        rule = Rule(
            id="r", title="Hosts", level=Level.HIGH, response=response, category=fact.category
        )
        observation = Observation(event, live, live.tree.get(live.root_pid), (fact,))
        responder.respond(observation, [(rule, fact)], now_ns)

    return act
