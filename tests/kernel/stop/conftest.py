# SPDX-License-Identifier: Apache-2.0
"""A responder with a record, over a real session."""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import contextmanager

import pytest
from calls import CWD
from laboratory import until
from states import asleep

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

FAN_CLASS_CONTENT, FAN_CLOEXEC = 4, 1
FAN_OPEN_PERM = 0x10000
FAN_MARK_ADD = 1
libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def unanswered(path):
    """Whoever opens the file waits for an answer that does not come, asleep past all signals but a kill."""
    fan = libc.fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, os.O_RDONLY)
    if fan < 0:
        pytest.skip(f"no fanotify permission events here: {os.strerror(ctypes.get_errno())}")
    try:
        mask = ctypes.c_uint64(FAN_OPEN_PERM)
        if libc.fanotify_mark(fan, FAN_MARK_ADD, mask, CWD, os.fsencode(path)):
            pytest.skip(f"no fanotify permission events here: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        os.close(fan)  # lets everybody go who still waits


@pytest.fixture
def stuck(inside, puppet, scratch):
    """A process of the session in uninterruptible sleep."""
    (scratch / "file").touch()
    with unanswered(scratch / "file"):
        puppet.become("openat", CWD, os.fsencode(scratch / "file"), os.O_RDONLY)
        assert until(lambda: asleep(puppet.pid))
        yield puppet


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
        cgroup=inside.cgroup, cgroup_id=inside.cgroup_id, root_pid=puppet.pid, uid=0, history_events=10,
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
