# SPDX-License-Identifier: Apache-2.0
"""Server-sent alerts: live, resumable without a gap, and safe from slow readers."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import httpx
import httpx_sse
import pytest

from monitor.alerts import Action
from monitor.api import stream
from monitor.errors import StoreError


def follow(client, path="/alerts/stream", **headers):
    return httpx_sse.connect_sse(client, "GET", path, headers=headers)


def take(events, count):
    alerts = (event for event in events if event.event == "alert")
    return [next(alerts) for _ in range(count)]


def seen(events):
    return [(event.id, json.loads(event.data)["id"]) for event in events]


def test_a_new_alert_arrives_live(api):
    api.alert(1)
    with api.local(timeout=5) as client, follow(client) as source:
        api.alert(2)
        (event,) = take(source.iter_sse(), 1)
    assert (event.event, event.id, json.loads(event.data)["id"]) == ("alert", "2", "a2")


def test_a_later_state_of_an_alert_arrives_under_the_same_id(api):
    with api.local(timeout=5) as client, follow(client) as source:
        stream = source.iter_sse()
        api.alert(1, action=Action.STOPPING)
        events = take(stream, 1)  # two states within one look are told as one
        api.alert(1, action=Action.FROZEN)
        events += take(stream, 1)
    assert seen(events) == [("1", "a1"), ("2", "a1")]
    assert json.loads(events[1].data)["outcome"]["action"] == "frozen"


def test_a_follower_resumes_from_last_event_id_without_gap_or_repeat(api):
    for number in range(1, 41):
        api.alert(number)
    with (
        api.local(timeout=5) as client,
        follow(client, **{"Last-Event-ID": "5"}) as source,
    ):
        api.alert(41)
        events = take(source.iter_sse(), 36)
    assert seen(events) == [(str(n), f"a{n}") for n in range(6, 42)]


def test_a_follower_cut_off_before_its_first_alert_can_resume_too(api):
    api.alert(1)
    with api.local(timeout=5) as client:
        with follow(client) as source:
            first = next(source.iter_sse())
        api.alert(2)
        with follow(client, **{"Last-Event-ID": first.id}) as source:
            events = take(source.iter_sse(), 1)
    assert (first.event, first.id, first.data) == ("following", "1", "")
    assert seen(events) == [("2", "a2")]


def test_a_stream_is_filtered(api):
    with (
        api.local(timeout=5) as client,
        follow(client, "/alerts/stream?session=s2") as source,
    ):
        api.alert(1)
        api.alert(2, session="s2")
        events = take(source.iter_sse(), 1)
    assert seen(events) == [("2", "a2")]


def test_a_silent_stream_is_kept_alive(api, monkeypatch):
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.1)
    with (
        api.local(timeout=5) as client,
        client.stream("GET", "/alerts/stream") as response,
    ):
        lines = response.iter_lines()
        assert any(line.startswith(": ping") for line in lines)


class Crowd:
    """Followers on threads of their own, all of whom stand at the beginning."""

    def __init__(self, api, many, alerts, path="/alerts/stream"):
        self.told = [[] for _ in range(many)]
        self._all_there = threading.Barrier(many + 1)
        self._threads = [
            threading.Thread(target=self._follow, args=(api, alerts, path, told))
            for told in self.told
        ]

    def _follow(self, api, alerts, path, told):
        with api.local(timeout=30) as client, follow(client, path) as source:
            events = source.iter_sse()
            assert next(events).event == "following"
            self._all_there.wait(30)
            told += seen(take(events, alerts))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self._all_there.wait(30)
        return self

    def __exit__(self, *_):
        for thread in self._threads:
            thread.join(30)


def test_followers_at_the_same_place_read_it_together(api, monkeypatch):
    looked, changes = [], api.store.changes

    def counting(*args, **more):
        looked.append(more["since"])
        return changes(*args, **more)

    monkeypatch.setattr(api.store, "changes", counting)
    with Crowd(api, 30, 1) as crowd:
        time.sleep(0.5)  # each looks when it comes
        looked.clear()
        api.alert(1)
    time.sleep(0.2)
    assert crowd.told == [[("1", "a1")]] * 30
    assert len(looked) < 10


@pytest.fixture
def slow_look(api, monkeypatch):
    """The first look into the record has its answer, and gives it only when the block ends."""
    changes, go_on, looked = api.store.changes, threading.Event(), threading.Event()

    def slow(*args, **more):
        found = changes(*args, **more)
        if not looked.is_set():
            looked.set()
            assert go_on.wait(10)
        return found

    @contextlib.contextmanager
    def during(path="/alerts/stream"):
        monkeypatch.setattr(api.store, "changes", slow)
        with api.local(timeout=10) as client, follow(client, path, **{"Last-Event-ID": "0"}):
            assert looked.wait(5)
            yield
            go_on.set()

    yield during
    go_on.set()


def test_who_comes_while_others_look_is_told_what_they_were_too_early_for(api, slow_look):
    with slow_look():
        api.alert(1)
        with api.local(timeout=5) as client, follow(client, **{"Last-Event-ID": "0"}) as source:
            assert seen(take(source.iter_sse(), 1)) == [("1", "a1")]


def test_who_looks_for_something_else_is_told_his_own(api, slow_look):
    api.alert(1)
    with (
        slow_look("/alerts/stream?session=s2"),
        api.local(timeout=5) as client,
        follow(client, **{"Last-Event-ID": "0"}) as source,
    ):
        assert seen(take(source.iter_sse(), 1)) == [("1", "a1")]


def test_a_look_that_failed_is_not_remembered(api, monkeypatch):
    api.alert(1)
    changes, failed = api.store.changes, []

    def failing_once(*args, **more):
        if not failed:
            failed.append(True)
            raise StoreError("cannot read", mend="look at the disk")
        return changes(*args, **more)

    monkeypatch.setattr(api.store, "changes", failing_once)
    with api.local(timeout=5) as client:
        with (
            contextlib.suppress(httpx.HTTPError),
            follow(client, **{"Last-Event-ID": "0"}) as source,
        ):
            assert [event.event for event in source.iter_sse()] == ["following"]
        with follow(client, **{"Last-Event-ID": "0"}) as source:
            assert seen(take(source.iter_sse(), 1)) == [("1", "a1")]
    assert failed


def test_of_many_followers_none_has_a_gap_while_alerts_come(api):
    with Crowd(api, 20, 200) as crowd:
        for number in range(1, 201):
            api.alert(number)
    assert crowd.told == [[(str(n), f"a{n}") for n in range(1, 201)]] * 20


@pytest.mark.parametrize("given", ["x", "-1", "99999999999999999999999"])
def test_a_last_event_id_that_is_no_cursor_is_refused(api, given):
    with api.local() as client:
        assert client.get("/alerts/stream", headers={"Last-Event-ID": given}).status_code == 422


def test_a_reader_that_takes_nothing_is_cut_off_and_others_are_served(api, monkeypatch):
    monkeypatch.setattr(stream, "STUCK_S", 0.5)
    stuck = socket.socket(socket.AF_UNIX)
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect(str(api.socket_path))
    stuck.sendall(b"GET /api/v1/alerts/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert stuck.recv(1) == b"H"
    with api.local(timeout=10) as client, follow(client) as source:
        for number in range(1, 31):
            api.alert(number, text="x" * 100_000)
        assert len(take(source.iter_sse(), 30)) == 30
    deadline = time.monotonic() + 5
    while api.server._server.server_state.connections and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not api.server._server.server_state.connections, "it still holds memory for the reader"
    received = 0
    with stuck, contextlib.suppress(ConnectionResetError):
        stuck.settimeout(5)
        while chunk := stuck.recv(65536):
            received += len(chunk)
    assert received < 2_000_000


def test_stopping_the_server_ends_streams_at_once(api):
    ended = threading.Event()

    def read():
        with api.local(timeout=30) as client, follow(client) as source:
            started.set()
            list(source.iter_sse())
            ended.set()

    started = threading.Event()
    reader = threading.Thread(target=read)
    reader.start()
    assert started.wait(5)
    before = time.monotonic()
    api.server.stop()
    assert time.monotonic() - before < 2
    assert ended.wait(5)
    reader.join()
