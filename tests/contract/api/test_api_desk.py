# SPDX-License-Identifier: Apache-2.0
"""Incidents, grants, notes, tokens and roles over a real socket."""

from __future__ import annotations

import pytest

from monitor.control import TokenRequest
from monitor.incidents import Resolution, Role
from monitor.record.store import Store

READS = ["/me", "/sessions", "/incidents", "/alerts", "/grants", "/rules", "/health"]


@pytest.fixture
def as_role(api):
    """A client with a token of this role."""

    def make(role):
        made = api.tokens.create(TokenRequest(name=f"a-{role}", role=role), who="a test")
        return api.tcp(token=made.secret)

    return make


# Incidents ------------------------------------------------------------------------------------------


def test_an_incident_is_told_with_its_alerts_and_what_led_to_it(api):
    api.control.add("s1")
    api.alert(1)
    opened = api.incident(2)
    with api.tcp() as client:
        told = client.get(f"/incidents/{opened.id}").json()
        assert [alert["id"] for alert in told["alerts"]] == ["a1", "a2"]
        assert (told["cause"], told["state"]) == ("a2", "open")
        assert told["rule"]["id"] == "hosts"


def test_the_next_incident_begins_where_the_last_one_ended(api):
    api.control.add("s1")
    first = api.incident(1)
    with api.control.casebook.deciding("s1", Resolution.RESUMED, who="ann", why="fine"):
        api.control.casebook.resolved("s1", Resolution.RESUMED)
    second = api.incident(2)
    with api.tcp() as client:
        old, new = (client.get(f"/incidents/{i.id}").json() for i in (first, second))
        assert (old["state"], old["resolution"], old["resolved_by"]) == (
            "resolved",
            "resumed",
            "ann",
        )
        assert new["after"] == old["until"] != ""
        newest = client.get("/incidents").json()["items"]
        assert [item["id"] for item in newest] == [second.id, first.id]
        still = client.get("/incidents", params={"state": "open"}).json()["items"]
        assert [item["id"] for item in still] == [second.id]


def test_pages_of_incidents_go_back_without_gap_or_repeat(api):
    for number in range(5):
        api.incident(number, session=f"s{number}")
    with api.tcp() as client:
        seen, cursor = [], None
        while True:
            params = {"limit": 2} | ({"before": cursor} if cursor else {})
            page = client.get("/incidents", params=params).json()
            seen += [item["cause"] for item in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert seen == ["a4", "a3", "a2", "a1", "a0"]


def test_notes_on_an_incident_survive_its_end_and_a_restart(api, tmp_path):
    opened = api.incident(1)
    with api.tcp() as client:
        client.post(f"/incidents/{opened.id}/acknowledge", json={"why": "on it"})
        api.control.casebook.resolved("s1", Resolution.KILLED)
        seen = client.post(f"/incidents/{opened.id}/assign", json={"to": "bob"}).json()
        assert seen["care"]["why"] == "on it"
        assert seen["care"]["assignee"] == "bob"
    reopened = Store(api.store._database.path)
    again, _ = reopened.incident(opened.id)
    reopened.close()
    assert (again.care.assignee, again.resolution) == ("bob", "killed")


def test_who_has_seen_an_incident_has_seen_its_alerts_but_not_those_of_others(api):
    opened = api.incident(1)
    api.alert(2, session="s2")
    with api.tcp() as client:
        client.post(f"/incidents/{opened.id}/acknowledge", json={"why": "on it"})
        care = client.get("/alerts/a1").json()["care"]
        assert (care["state"], care["why"]) == ("acknowledged", "on it")
        left = client.get("/alerts", params={"state": "new"}).json()["items"]
        assert [alert["id"] for alert in left] == ["a2"]


def test_a_note_on_an_alert_stays_when_its_incident_is_acknowledged(api):
    opened = api.incident(1)
    with api.tcp() as client:
        client.post("/alerts/a1/acknowledge", json={"why": "mine"})
        client.post(f"/incidents/{opened.id}/acknowledge", json={"why": "all of it"})
        assert client.get("/alerts/a1").json()["care"]["why"] == "mine"


def test_another_users_incident_does_not_exist(api):
    opened = api.incident(1)
    with api.tcp() as client:
        assert client.get(f"/incidents/{opened.id}x").status_code == 404
        assert client.get("/incidents/x/evidence").status_code == 404
        assert client.post("/incidents/x/acknowledge").status_code == 404


def test_the_stream_of_incidents_tells_of_each_change_and_resumes(api):
    opened = api.incident(1)
    resuming = {"Last-Event-ID": "0"}
    with (
        api.tcp() as client,
        api.tcp() as other,
        client.stream("GET", "/incidents/stream", headers=resuming) as stream,
    ):
        lines = stream.iter_lines()
        assert "event: following" in list(_event(lines))
        assert "event: incident" in list(_event(lines))
        other.post(f"/incidents/{opened.id}/acknowledge")
        assert '"acknowledged"' in "\n".join(_event(lines))


def _event(lines):
    for line in lines:
        if not line:
            return
        yield line


# Notes on alerts ------------------------------------------------------------------------------------


def test_an_alert_that_somebody_took_note_of_can_be_left_out_and_is_streamed_again(api):
    api.alert(1)
    api.alert(2)
    with api.tcp() as client:
        newest = client.get("/alerts", params={"since": 0}).json()["next"]
        noted = client.post("/alerts/a1/acknowledge", json={"why": "known"}).json()
        assert noted["care"]["by"] == "token test"
        left = client.get("/alerts", params={"state": "new"}).json()["items"]
        assert [alert["id"] for alert in left] == ["a2"]
        changed = client.get("/alerts", params={"since": newest}).json()["items"]
        assert [(a["id"], a["care"]["why"]) for a in changed] == [("a1", "known")]


def test_what_the_monitor_adds_to_an_alert_later_does_not_undo_a_note(api):
    alert = api.alert(1)
    with api.tcp() as client:
        client.post("/alerts/a1/assign", json={"to": "ann"})
        client.post("/alerts/a1/acknowledge")
        api.store.save_alert(alert)
        api.store.flush()
        care = client.get("/alerts/a1").json()["care"]
        assert (care["assignee"], care["state"]) == ("ann", "acknowledged")


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"tactic": "impact"}, ["a1"]),
        ({"tactic": "imp"}, []),
        ({"after": "2026-11-22T12:00:00+00:00"}, ["a1"]),
        ({"after": "2026-11-22T13:00:00.001+01:00"}, []),
        ({"until": "2026-11-22T12:00:00Z"}, []),
        ({"until": "2026-11-22T12:00:00.001Z"}, ["a1"]),
    ],
)
def test_alerts_are_found_by_tactic_and_time(api, params, found):
    api.alert(1)
    with api.tcp() as client:
        items = client.get("/alerts", params=params).json()["items"]
        assert [alert["id"] for alert in items] == found


# Grants ---------------------------------------------------------------------------------------------


def test_a_grant_is_made_listed_and_taken_back(api):
    api.control.add("s1")
    with api.tcp() as client:
        made = client.post("/sessions/s1/grants", json={"rule": "hosts", "fields": {"A": "b"}})
        assert made.status_code == 201
        grant = made.json()["id"]
        assert [one["id"] for one in client.get("/grants").json()] == [grant]
        assert client.get("/grants", params={"session": "other"}).json() == []
        assert client.delete(f"/grants/{grant}").json()["revoked_by"] == "token test"
        assert client.delete(f"/grants/{grant}").status_code == 404


@pytest.mark.parametrize("for_s", [0, -1, 10**9])
def test_a_grant_without_end_is_refused(api, for_s):
    api.control.add("s1")
    with api.tcp() as client:
        assert (
            client.post("/sessions/s1/grants", json={"rule": "r", "for_s": for_s}).status_code
            == 400
        )


# Roles and tokens -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", READS)
def test_a_viewer_reads_everything(as_role, path):
    with as_role(Role.VIEWER) as client:
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/sessions/s1/freeze", "/sessions/s1/kill", "/sessions/s1/grants", "/rules/reload", "/tokens"],
)
def test_a_viewer_changes_nothing(api, as_role, path):
    api.control.add("s1")
    with as_role(Role.VIEWER) as client:
        refused = client.post(path, json={"rule": "hosts"})
        assert refused.status_code == 403
        assert refused.json()["mend"]
    assert api.control.session("s1").state == "running"


def test_a_responder_stops_and_grants_and_does_not_make_tokens_or_reload(api, as_role):
    api.control.add("s1")
    with as_role(Role.RESPONDER) as client:
        assert client.get("/me").json() == {"name": "token a-responder", "role": "responder"}
        assert client.post("/sessions/s1/freeze").status_code == 200
        assert client.post("/sessions/s1/grants", json={"rule": "hosts"}).status_code == 201
        assert client.post("/rules/reload").status_code == 403
        assert client.get("/tokens").status_code == 403
        assert client.post("/tokens", json={"name": "x", "role": "admin"}).status_code == 403


def test_a_revoked_token_opens_nothing_and_no_secret_is_kept(api):
    with api.tcp() as admin:
        made = admin.post("/tokens", json={"name": "ann", "role": "viewer"}).json()
        with api.tcp(token=made["secret"]) as client:
            assert client.get("/me").status_code == 200
            assert admin.delete(f"/tokens/{made['id']}").json()["revoked"]
            assert client.get("/me").status_code == 401
        assert made["secret"] not in admin.get("/tokens").text
    for file in api.store._database.path.parent.iterdir():
        assert made["secret"].encode() not in file.read_bytes()


def test_tokens_outlive_the_monitor(api):
    made = api.tokens.create(TokenRequest(name="ann", role=Role.VIEWER), who="x")
    api.store.flush()
    reopened = Store(api.store._database.path)
    again = type(api.tokens)(reopened)
    reopened.close()
    assert again.find(made.secret).name == "ann"
    assert again.find(made.secret + "x") is None


@pytest.mark.parametrize("api", [{"requests_per_s": 5}], indirect=True)
def test_who_asks_too_often_waits_and_can_still_stop(api):
    api.control.add("s1")
    with api.tcp() as client:
        answers = [client.get("/me") for _ in range(20)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert refused[0].headers["retry-after"] == "1"
        assert client.post("/sessions/s1/freeze").status_code == 200
    assert api.control.session("s1").state == "frozen"
