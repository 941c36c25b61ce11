# SPDX-License-Identifier: Apache-2.0
"""What is told to the monitor that comes next, and when it is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor import memories
from monitor.fields import Fact
from monitor.memories import Memories
from monitor.record.store import Store
from monitor.sessions.live import LiveSession
from monitor.subjects import Done, Labelled, Mode, Origin, Process

SECRET = frozenset({"credential"})
READER, OTHER = 10, 11
FILE, FETCHED = (1, 2), (1, 3)
ASKED = Fact(category="dns_query", fields={"QueryName": "example.org"})


@pytest.fixture
def recorded(store):
    """Everything that was saved, in order."""
    saved = []

    def save(session, memory):
        saved.append(memory)
        return Store.save_memory(store, session, memory)

    store.save_memory = save
    return saved


def session(**more):
    live = LiveSession(
        id="s1", slot=1, name="n", mode=Mode.ENFORCE, origin=Origin.LAUNCHED, cgroup=Path("/none"),
        root_pid=READER, uid=0, history_events=1, **more,
    )  # fmt: skip
    for pid in (READER, OTHER):
        live.tree.add(Process(pid=pid, image="/bin/sh"))
    return live


def learned():
    live = session(home="/opt/agent", user_home="/home/ann")
    live.tree.taint(READER, SECRET)
    live.tree.opened(READER, FILE, read=False, write=True)
    live.written.add(*FILE)
    live.downloaded.add(*FETCHED)
    live.seen.add(ASKED)
    return live


def tainted(live, pid):
    return live.tree.fields(live.tree.get(pid))["Tainted"]


def test_all_that_was_learned_is_known_to_the_next_monitor(store):
    Memories(store).keep(learned())
    assert store.flush()
    live, next_one = session(), Memories(store)
    live.tree.fields(live.tree.get(READER))  # built before it is told
    next_one.recall(live)
    assert tainted(live, READER) == ["credential"]
    assert tainted(live, OTHER) == []
    live.tree.opened(OTHER, FILE, read=True, write=False)
    assert tainted(live, OTHER) == ["credential"]
    assert FILE in live.written
    assert FETCHED in live.downloaded
    assert FETCHED not in live.written
    assert not live.seen.first(ASKED.category, ASKED.fields)
    assert live.user_home == "/home/ann"
    assert next_one.home("s1") == "/opt/agent"


def test_who_ended_meanwhile_is_not_remembered(store):
    Memories(store).keep(learned())
    assert store.flush()
    live = session()
    live.tree.exit(READER)
    Memories(store).recall(live)
    live.tree.add(Process(pid=READER, image="/bin/sh"))  # the number was given to another
    assert tainted(live, READER) == []


def test_where_nothing_was_recorded_nothing_is_recalled(store):
    live, next_one = session(), Memories(store)
    next_one.recall(live)
    assert (tainted(live, READER), next_one.home("s1")) == ([], "")


def test_a_label_is_recorded_when_it_comes_and_the_rest_when_it_is_due(
    store, recorded, monkeypatch
):
    now = [100.0]
    monkeypatch.setattr(memories.time, "monotonic", lambda: now[0])
    live, keeper = learned(), Memories(store)
    keeper.keep(live)
    assert [type(memory) for memory in recorded] == [Labelled, Done]
    keeper.keep(live)
    live.tree.opened(READER, FILE, read=False, write=True)  # no news
    live.written.add(*FILE)
    keeper.keep(live)
    assert len(recorded) == 2
    live.tree.taint(OTHER, SECRET)
    live.written.add(1, 4)
    keeper.keep(live)
    assert [type(memory) for memory in recorded[2:]] == [Labelled]
    now[0] += 10
    keeper.keep(live)
    assert [type(memory) for memory in recorded[3:]] == [Done]
    now[0] += 10
    keeper.keep(live)
    assert len(recorded) == 4
    live.written.add(1, 5)
    keeper.keep(live, all_of_it=True)
    assert (1, 5) in recorded[-1].written


def test_a_label_that_a_rule_gave_does_not_wait(store, recorded):
    live = learned()
    Memories(store).keep_labels(live)
    assert recorded == [
        Labelled(processes={READER: ["credential"]}, files=[(FILE, ["credential"])])
    ]


def test_a_process_that_lost_its_labels_is_news(store, recorded):
    live, keeper = learned(), Memories(store)
    keeper.keep_labels(live)
    live.tree._taint.forget(READER)
    keeper.keep_labels(live)
    assert recorded[-1].processes == {}


def test_of_an_ended_session_nothing_is_kept(store):
    live, keeper = learned(), Memories(store)
    keeper.keep(live)
    keeper.forget(live)
    assert store.flush()
    assert store.memory("s1", Labelled) == Labelled()
    assert store.memory("s1", Done) == Done()


@pytest.mark.parametrize("again", ["keep", "keep_labels"])
def test_of_a_session_that_ended_nothing_is_recorded_again(store, again):
    live, keeper = learned(), Memories(store)
    live.ended = "2026-01-01T00:00:00.000+00:00"
    keeper.forget(live)
    getattr(keeper, again)(live)
    assert store.flush()
    assert store.memory("s1", Labelled) == Labelled()
    assert store.memory("s1", Done) == Done()


def test_only_the_latest_are_told_to_the_next_monitor():
    live = session()
    for number in range(5_001):
        live.written.add(1, number)
    assert live.done().written == [(1, number) for number in range(1, 5_001)]
