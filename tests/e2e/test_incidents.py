# SPDX-License-Identifier: Apache-2.0
"""The desk over a real stop: what is told of it, a grant that holds, its end, its evidence."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import time

import httpx
import pytest
import zstandard
from opener import opener

from agent.private_monitor import ESTOP, until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_APPEND = os.O_WRONLY | os.O_APPEND


@pytest.fixture
def desk(monitor):
    transport = httpx.HTTPTransport(uds=monitor.socket)
    with httpx.Client(
        transport=transport, base_url="http://localhost/api/v1", timeout=20
    ) as client:
        yield client


def incident_of(desk, agent):
    found = desk.get("/incidents", params={"session": agent.of.name}).json()["items"]
    assert found
    return desk.get(f"/incidents/{found[0]['id']}").json()


def with_evidence(desk, agent):
    """The evidence is taken after the stop."""
    assert until(lambda: incident_of(desk, agent)["tree"], 10)
    return incident_of(desk, agent)


def test_an_incident_says_who_did_what_and_what_became_of_it(monitor, desk, place, user):
    with opener(monitor, place, user) as agent:
        agent.order("/etc/hosts", _APPEND)
        stop = agent.of.await_stop(10)
        told = with_evidence(desk, agent)
        assert told["state"] == "open"
        assert told["cause"] == stop["id"]
        assert told["title"] == stop["rule"]["title"] == told["rule"]["title"]
        assert "tried to open /etc/hosts to write; it was refused" in told["sentence"]
        assert "The whole session was frozen" in told["sentence"]
        guilty = [branch for branch in told["tree"] if branch["guilty"]]
        assert stop["event"]["fields"]["ProcessId"] in {branch["pid"] for branch in guilty}
        assert "/usr/bin/python3" in " ".join(branch["image"] for branch in guilty)
        kinds = {moment["kind"] for moment in told["timeline"]}
        assert {"alert", "step", "file"} <= kinds
        act = next(moment for moment in told["timeline"] if moment["guilty"])
        assert (act["text"], act["refused"]) == ("tried to write /etc/hosts", True)
        assert [m["at_ms"] for m in told["timeline"]] == sorted(
            m["at_ms"] for m in told["timeline"]
        )
        assert told["sent"]["bytes"] == 0
        assert told["session_now"]["state"] == "frozen"


def test_what_a_person_grants_happens_after_the_resume_and_no_longer_than_he_said(
    monitor, desk, place, user
):
    with opener(monitor, place, user) as agent:
        agent.order("/etc/hosts", _APPEND)
        agent.of.await_stop(10)
        told = incident_of(desk, agent)
        leave = {
            "rule": told["rule"]["id"],
            "fields": {"TargetFilename": "/etc/hosts"},
            "for_s": 6,
            "why": "a new name",
        }
        granted = desk.post(f"/sessions/{agent.of.name}/grants", json=leave)
        assert granted.status_code == 201, granted.text
        until_s = time.monotonic() + 6
        assert (
            desk.post(f"/sessions/{agent.of.name}/resume", json={"why": "fine"}).status_code == 200
        )
        assert agent.said() == 1  # EPERM: what was refused stays refused
        assert agent.opens("/etc/hosts", _APPEND) == "opened"
        done = desk.get("/alerts", params={"session": agent.of.name, "action": "granted"}).json()
        assert "a new name" in done["items"][0]["outcome"]["detail"]
        closed = incident_of(desk, agent)
        assert (closed["state"], closed["resolution"], closed["why"]) == (
            "resolved",
            "resumed",
            "fine",
        )
        assert [act["verb"] for act in closed["actions"]][-2:] == ["grant", "resume"]
        time.sleep(max(0.0, until_s - time.monotonic()) + 0.1)
        assert desk.get("/grants", params={"session": agent.of.name}).json() == []
        agent.order("/etc/hosts", _APPEND)
        assert until(lambda: incident_of(desk, agent)["id"] != closed["id"], 10)
        assert monitor.session(agent.of.name)["state"] == "frozen"


def test_a_grant_for_one_file_is_none_for_another(monitor, desk, place, user):
    with opener(monitor, place, user) as agent:
        agent.order("/etc/hosts", _APPEND)
        agent.of.await_stop(10)
        rule = incident_of(desk, agent)["rule"]["id"]
        leave = {"rule": rule, "fields": {"TargetFilename": "/etc/other"}, "for_s": 60}
        desk.post(f"/sessions/{agent.of.name}/grants", json=leave)
        desk.post(f"/sessions/{agent.of.name}/resume")
        agent.said()
        agent.order("/etc/hosts", _APPEND)
        assert until(lambda: monitor.session(agent.of.name)["state"] == "frozen", 10)


def test_the_evidence_is_one_file_whose_hashes_hold(monitor, desk, place, user):
    with opener(monitor, place, user) as agent:
        agent.order("/etc/hosts", _APPEND)
        agent.of.await_stop(10)
        told = with_evidence(desk, agent)
        answer = desk.get(f"/incidents/{told['id']}/evidence")
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(answer.content)
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            files = {m.name.partition("/")[2]: tar.extractfile(m).read() for m in tar.getmembers()}
        manifest = json.loads(files.pop("manifest.json"))
        assert {(f["name"], f["bytes"], f["sha256"]) for f in manifest["files"]} == {
            (n, len(d), hashlib.sha256(d).hexdigest()) for n, d in files.items()
        }
        assert json.loads(files["incident.json"])["id"] == told["id"]
        pids = {p["pid"] for p in json.loads(files["evidence.json"])["processes"]}
        assert pids


def test_a_person_who_freezes_and_kills_opens_an_incident_and_closes_it(monitor, desk, place, user):
    with opener(monitor, place, user) as agent:
        desk.post(f"/sessions/{agent.of.name}/freeze", json={"why": "odd"})
        told = incident_of(desk, agent)
        assert told["cause"] == ""
        assert told["state"] == "open"
        assert "froze" in told["sentence"]
        assert "odd" in told["sentence"]
        assert told["tree"]
        desk.post(f"/sessions/{agent.of.name}/kill", json={"why": "enough"})
        closed = incident_of(desk, agent)
        assert (closed["resolution"], closed["why"]) == ("killed", "enough")


def test_whoever_takes_note_is_on_the_incident_and_on_the_alert(monitor, desk, place, user):
    with opener(monitor, place, user) as agent:
        agent.order("/etc/hosts", _APPEND)
        stop = agent.of.await_stop(10)
        told = with_evidence(desk, agent)
        seen = desk.post(f"/incidents/{told['id']}/acknowledge", json={"why": "on it"}).json()
        assert (seen["care"]["state"], seen["care"]["why"]) == ("acknowledged", "on it")
        desk.post(f"/incidents/{told['id']}/assign", json={"to": "ann"})
        assert incident_of(desk, agent)["care"]["assignee"] == "ann"
        desk.post(f"/alerts/{stop['id']}/acknowledge", json={"why": "mine"})
        new = desk.get("/alerts", params={"session": agent.of.name, "state": "new"}).json()["items"]
        assert stop["id"] not in {alert["id"] for alert in new}
        kept = desk.get(f"/alerts/{stop['id']}").json()
        assert kept["care"]["why"] == "mine"
        assert kept["evidence"]["processes"]


def test_top_into_a_pipe_is_one_picture_after_the_other(monitor):
    command = [ESTOP, "top", "--every", "0.2", "--runtime-dir", str(monitor.runtime_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as top:
        pictures = 0
        for line in top.stdout:
            pictures += line.startswith("SESSION")
            if pictures == 2:
                break
        top.terminate()
    assert pictures == 2
