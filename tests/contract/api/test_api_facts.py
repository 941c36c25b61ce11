# SPDX-License-Identifier: Apache-2.0
"""A session's facts over HTTP: from now on, until it ends, and for its owner only."""

from __future__ import annotations

import json

import msgspec

from agent.private_monitor import until
from monitor.fields import Fact
from monitor.subjects import State

FACTS = (Fact(category="dns_query", fields={"QueryName": "example.org", "ProcessId": 7}),)


def end(api, session):
    known = api.control.known
    known[session] = msgspec.structs.replace(known[session], state=State.EXITED)


def test_facts_come_as_lines_of_a_recording_until_the_session_ends(api):
    api.control.add("s1")
    api.control.taps.note("s1", 1, FACTS)
    with api.local() as client, client.stream("GET", "/sessions/name-s1/facts") as response:
        assert response.headers["content-type"].startswith("application/x-ndjson")
        lines = response.iter_lines()
        assert json.loads(next(lines))["session"] == "name-s1"
        api.control.taps.note("s1", 2, FACTS)
        assert json.loads(next(lines))["fields"] == {"ProcessId": 7}
        told = json.loads(next(lines))
        assert (told["ktime_ns"], told["fields"]) == (2, {"QueryName": "example.org"})
        end(api, "s1")
        assert list(lines) == []


def test_who_hangs_up_makes_room_for_the_next(api):
    api.control.add("s1")
    with api.local() as client:
        for _ in range(6):
            with client.stream("GET", "/sessions/s1/facts") as response:
                assert response.status_code == 200
                next(response.iter_lines())
            assert until(lambda: not api.control.taps.listened("s1"), 5.0)


def test_a_session_that_is_not_there_has_no_facts(api):
    with api.local() as client:
        assert client.get("/sessions/gone/facts").status_code == 404


def test_too_many_listeners_are_a_conflict(api):
    api.control.add("s1")
    taps = [api.control.taps.open("s1") for _ in range(4)]
    with api.local() as client:
        found = client.get("/sessions/s1/facts")
    assert len(taps) == 4
    assert found.status_code == 409
    assert "recorded by too many" in found.json()["detail"]
