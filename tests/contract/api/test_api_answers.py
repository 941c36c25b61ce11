# SPDX-License-Identifier: Apache-2.0
"""What each route answers, and how it refuses."""

from __future__ import annotations

import msgspec
import pytest

from monitor.alerts import Action, ActionRecord, Alert
from monitor.control import Health
from monitor.record.queries import Page
from monitor.subjects import Session, State


def problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert set(found) == {"type", "title", "status", "detail", "mend"}
    assert found["status"] == status
    return found


def test_a_session_is_found_by_id_and_by_name(api):
    session = api.control.add("s1")
    with api.local() as client:
        for name in ("s1", "name-s1"):
            found = client.get(f"/sessions/{name}").content
            assert msgspec.json.decode(found, type=Session) == session
        assert [s["id"] for s in client.get("/sessions").json()] == ["s1"]


def test_a_dead_session_id_is_named_and_mended(api):
    with api.local() as client:
        for path in ("/sessions/gone", "/sessions/gone/actions"):
            found = problem(client.get(path), 404)
            assert "'gone'" in found["detail"]
            assert "estop sessions" in found["mend"]
            assert found["type"] == "urn:estop:problem:session-not-found"
        for verb in ("freeze", "resume", "kill"):
            problem(client.post(f"/sessions/gone/{verb}"), 404)


def test_acts_are_idempotent_and_keep_who_and_why(api):
    api.control.add("s1")
    with api.local() as client:
        first = client.post("/sessions/s1/freeze", json={"why": "looked odd"})
        second = client.post("/sessions/name-s1/freeze")
    record = msgspec.json.decode(first.content, type=ActionRecord)
    assert (record.verb, record.why, record.outcome.action) == (
        "freeze",
        "looked odd",
        Action.FROZEN,
    )
    assert record.who.startswith("uid ")
    assert second.status_code == 200
    assert second.json()["outcome"]["action"] == "already_stopped"


def test_a_state_that_forbids_the_act_is_a_conflict(api):
    api.control.add("s1", state=State.KILLED)
    with api.local() as client:
        found = problem(client.post("/sessions/s1/resume"), 409)
    assert found["mend"] == "start a new one"


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"wyh": ""}', b'{"why": 1}', b"[]", b"\xff", b'{"why": "\\ud800"}'],
)
def test_a_body_that_is_not_as_described_is_refused(api, body):
    api.control.add("s1")
    with api.local() as client:
        problem(client.post("/sessions/s1/kill", content=body), 400)
    assert api.control.known["s1"].state is State.RUNNING


def test_a_body_without_end_is_refused(api):
    with api.local() as client:
        found = client.post("/sessions/attach", content=b'"' + b"x" * 2_000_000)
    problem(found, 413)


@pytest.mark.parametrize(("field", "bound"), [("name", 200), ("home", 4096)])
def test_a_text_that_is_kept_has_a_bound(api, field, bound):
    request = {"pid": 77, "name": "agent", "argv": ["sh"]}
    with api.local() as client:
        problem(client.post("/sessions", json={**request, field: "x" * (bound + 1)}), 400)
        assert client.post("/sessions", json={**request, field: "x" * bound}).status_code == 201


def test_an_unknown_path_method_or_parameter_is_a_problem_too(api):
    with api.local() as client:
        problem(client.get("/nothing"), 404)
        problem(client.delete("/sessions"), 405)
        assert "limit" in problem(client.get("/alerts?limit=0"), 422)["detail"]
        assert "levl" in problem(client.get("/alerts?levl=high"), 422)["detail"]


def test_a_launch_is_handed_on_with_who_asks(api):
    request = {"pid": 77, "name": "agent", "argv": ["sh"], "mode": "observe"}
    with api.local() as client:
        response = client.post("/sessions", json=request)
    assert response.status_code == 201
    assert msgspec.json.decode(response.content, type=Session).id == "launched"
    (launched, peer) = api.control.launches[0]
    assert (launched.pid, launched.argv, launched.mode) == (77, ("sh",), "observe")
    assert peer.pid > 0


def test_a_launch_over_tcp_is_refused_and_an_attach_is_not(api):
    with api.tcp() as client:
        problem(client.post("/sessions", json={"pid": 7, "name": "a", "argv": []}), 403)
        assert client.post("/sessions/attach", json={"pid": 7}).status_code == 201
    assert len(api.control.launches) == 1


def test_alerts_come_in_pages_and_one_by_one(api):
    alerts = [api.alert(number) for number in range(1, 4)]
    with api.local() as client:
        page = msgspec.json.decode(client.get("/alerts?limit=2").content, type=Page)
        assert page.items == [alerts[2], alerts[1]]
        rest = client.get(f"/alerts?limit=2&before={page.next}").json()
        assert [a["id"] for a in rest["items"]] == ["a1"]
        assert rest["next"] is None
        one = client.get("/alerts/a2").content
        assert msgspec.json.decode(one, type=Alert) == alerts[1]
        assert "'a9'" in problem(client.get("/alerts/a9"), 404)["detail"]


def test_an_alert_with_undecodable_bytes_is_served_as_json(api):
    api.alert(1, text="/tmp/\udcff\x1b[2J")
    with api.local() as client:
        found = client.get("/alerts").json()
    assert found["items"][0]["event"]["fields"]["TargetFilename"] == "/tmp/\\xff\x1b[2J"


def test_a_session_with_undecodable_bytes_is_served_as_json(api):
    api.control.known["s1"] = msgspec.structs.replace(api.control.add("s1"), argv=("\udcff",))
    with api.local() as client:
        assert client.get("/sessions").json()[0]["argv"] == ["\\xff"]


def test_a_session_of_an_earlier_run_is_lost_unless_it_had_ended(api):
    for number, state in enumerate([State.RUNNING, State.KILLED]):
        api.store.save_session(api.control.add(f"s{number}", state=state))
    assert api.store.flush()
    api.control.known.clear()
    with api.local() as client:
        assert client.get("/sessions").json() == []
        past = client.get("/sessions?past=true").json()
        assert client.get("/sessions/s0").json()["state"] == "lost"
    assert {s["id"]: s["state"] for s in past} == {"s0": "lost", "s1": "killed"}


def test_actions_on_a_session_can_be_read_back(api):
    api.control.add("s1")
    api.store.save_action(api.control.freeze("s1", who="uid 0 (root)", why="odd"))
    assert api.store.flush()
    with api.local() as client:
        (action,) = client.get("/sessions/s1/actions").json()
    assert (action["who"], action["why"]) == ("uid 0 (root)", "odd")


def test_health_says_what_is_wrong_with_status_200(api):
    with api.local() as client:
        response = client.get("/health")
    assert response.status_code == 200
    health = msgspec.json.decode(response.content, type=Health)
    assert (health.ok, health.problems) == (False, ("one program is not attached",))


def test_rules_and_metrics_are_served(api):
    with api.tcp() as client:
        assert client.get("/rules").json()[0]["id"] == "hosts"
        host, port = api.server.address
        metrics = client.get(f"http://{host}:{port}/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "estop_store_queue_rows 0.0" in metrics.text


def test_a_fault_in_the_monitor_is_a_problem_and_tells_nothing_of_the_inside(api, caplog):
    def fail():
        raise ZeroDivisionError("secret inside")

    api.control.rules = fail
    with api.local() as client:
        found = problem(client.get("/rules"), 500)
    assert "secret" not in str(found)
    api.server.stop()  # the log is written after the answer
    assert "secret inside" in caplog.text


def test_the_description_names_every_answer_and_resolves_every_reference(api):
    with api.local() as client:
        document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert {"Session", "Alert", "ActionRecord", "Health", "Page", "Problem", "RuleInForce"} <= set(
        schemas
    )
    assert set(schemas["Alert"]["properties"]) == set(Alert.__struct_fields__)
    for name in _references(document):
        assert name in schemas, name
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            ok = [code for code in operation["responses"] if code.startswith("2")]
            assert ok, (path, method)
            for code in ok:
                (content,) = operation["responses"][code]["content"].values()
                assert content.get("schema") or path == "/metrics", (path, method)


def _references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rpartition("/")[2]
        for item in node.values():
            yield from _references(item)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def test_a_reload_says_what_is_different_or_why_nothing_is(api):
    with api.local() as client:
        assert client.post("/rules/reload").json() == {
            "rules": 2,
            "added": ["New (n)"],
            "removed": [],
            "changed": ["Hosts file (hosts)"],
        }
        api.control.broken_rules = True
        found = problem(client.post("/rules/reload"), 422)
    assert "rules/a.yml:3" in found["detail"]
