# SPDX-License-Identifier: Apache-2.0
"""An incident told from its parts: the guilty branch, the order of things, where data went."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import tarfile

import msgspec
import pytest
import zstandard

from monitor import events
from monitor.alerts import Level, SessionRef
from monitor.events import Access, Verdict
from monitor.incidents import Incident
from monitor.record.account import _WORDS, account
from monitor.record.bundle import bundle

ACT_NS = 5_000_000_000
TIME = "2026-11-22T12:00:00.000+00:00"


def event(kind, at_ms=0.0, **fields):
    return {"kind": kind, "ktime_ns": ACT_NS + int(at_ms * 1e6), "tgid": 30, **fields}


EVIDENCE = {
    "processes": [{"pid": 10, "parent_pid": 1}, {"pid": 30, "parent_pid": 20}],
    "tree": [
        {"pid": 20, "parent_pid": 10, "image": "/bin/sh", "argv": ["sh"], "started_ns": 2},
        {"pid": 10, "parent_pid": 1, "image": "/agent", "argv": ["agent"], "started_ns": 1},
        {"pid": 30, "parent_pid": 20, "image": "/bin/tee", "argv": ["tee"], "started_ns": 3},
        {"pid": 40, "parent_pid": 10, "image": "/bin/ls", "argv": ["ls"], "started_ns": 4},
    ],
    "events": [
        event("Connected", -9, address="192.0.2.1", port=443, protocol="tcp", egress_bytes=5),
        event("Connected", -8, address="192.0.2.1", port=443, protocol="tcp", egress_bytes=70),
        event("ServerNamed", -7, address="192.0.2.1", port=443, name="api.example"),
        event("Connected", -6, address="192.0.2.2", port=80, protocol="tcp"),
    ],
}


@pytest.fixture
def tell(make_alert, make_session, make_action):
    def make(*, evidence=EVIDENCE, cause="a1", actions=(), **changed):
        alert = make_alert(
            1,
            event={"category": "file_event", "ktime_ns": ACT_NS, "fields": {"ProcessId": 30}},
            time=TIME,
            timings_ns={"held": 20_000, "frozen": 900_000},
        )
        earlier = make_alert(2, event={"category": "x", "ktime_ns": ACT_NS - 10**9, "fields": {}})
        incident = Incident(
            id="i",
            session=SessionRef(id="s1", name="name-s1"),
            opened=TIME,
            title="T",
            level=Level.HIGH,
            cause=cause,
            **changed,
        )
        return account(incident, make_session(), [earlier, alert], actions, evidence, None)

    return make


def test_the_one_that_did_it_and_those_above_it_are_marked_and_no_others(tell):
    tree = tell().tree
    assert {branch.pid for branch in tree if branch.guilty} == {10, 20, 30}
    assert {branch.pid for branch in tree if branch.alive} == {10, 30}


def test_a_tree_that_bites_its_own_tail_ends(tell):
    evil = {"tree": [{"pid": 30, "parent_pid": 31}, {"pid": 31, "parent_pid": 30}]}
    assert len(tell(evidence=evil).tree) == 2


def test_the_timeline_is_in_order_and_counts_from_the_act(tell, make_action):
    later = dt.datetime.fromisoformat(TIME) + dt.timedelta(seconds=3)
    act = msgspec.structs.replace(make_action(), time=later.isoformat(timespec="milliseconds"))
    told = tell(actions=[act]).timeline
    assert [(m.kind, m.at_ms) for m in told if m.kind != "network"] == [
        ("alert", -1000),
        ("alert", 0),
        ("step", 0.02),
        ("step", 0.9),
        ("action", 3000),
    ]


def test_where_data_went_is_counted_and_named(tell):
    sent = tell().sent
    assert [(d.address, d.host, d.count) for d in sent.destinations] == [
        ("192.0.2.1", "api.example", 2),
        ("192.0.2.2", "", 1),
    ]
    assert sent.total_bytes == 70


def test_what_it_changed_is_told_and_what_it_took_back_is_not(tell):
    def path(text):
        return {"path": {"text": text}}

    opened = {"kind": "Opened", "access": int(events.Access.WRITE)}
    made = {"kind": "Opened", "access": int(events.Access.WRITE | events.Access.CREATED)}
    refused = {"verdict": int(events.Verdict.REFUSED)}
    story = [
        {**made, "file": path("/h/kept")},
        {**opened, "file": path("/h/kept")},
        {**made, "file": path("/h/scratch")},
        {"kind": "Unlinked", "target": path("/h/scratch")},
        {**opened, "file": path("/h/old")},
        {"kind": "Unlinked", "target": path("/h/gone")},
        {**made, "file": path("/h/half")},
        {"kind": "Renamed", "source": path("/h/half"), "target": path("/h/whole")},
        {"kind": "Renamed", "source": path("/h/x"), "target": path("/h/moved")},
        {"kind": "Symlinked", "target": path("/h/link"), "text": "/etc"},
        {"kind": "ModeChanged", "target": path("/h/mode"), "mode": 0o4755},
        {"kind": "Opened", "access": int(events.Access.READ), "file": path("/h/read")},
        {**opened, "file": path("/dev/null")},
        {**made, "file": path("/dev/shm/kept")},
        {**opened, **refused, "file": path("/etc/hosts")},
    ]
    changed = tell(evidence={"events": [{"ktime_ns": ACT_NS, **one} for one in story]}).changed
    assert {one.path: one.did for one in changed} == {
        "/h/kept": "created",
        "/h/old": "wrote",
        "/h/gone": "deleted",
        "/h/whole": "created",
        "/h/moved": "moved here",
        "/h/link": "linked",
        "/h/mode": "changed the permissions",
        "/dev/shm/kept": "created",
    }


@pytest.mark.parametrize("address", ["127.0.0.53", "::1", "::ffff:127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("other", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"])
def test_what_was_sent_to_the_machine_itself_is_told_apart(tell, address, other):
    event = {"kind": "Connected", "port": 53, "protocol": "udp", "ktime_ns": 1}
    events = [{**event, "address": address}, {**event, "address": other}]
    places = tell(evidence={"events": events}).sent.destinations
    assert {place.address: place.local for place in places} == {address: True, other: False}


def test_a_stop_by_a_person_has_no_cause_and_is_told_all_the_same(tell):
    told = tell(cause="")
    assert not [branch for branch in told.tree if branch.guilty]
    assert told.sent.bytes is None


def test_without_evidence_there_is_no_picture(tell):
    assert tell(evidence=None).tree == ()


def _example(hint):
    kinds = {str: "x", int: 3, bool: True, events.Path: {"text": "/p", "within": "/p"}}
    if hint is events.File:
        return {"path": {"text": "/f"}}
    if hint is events.Name:
        return {"base": {"text": "/base"}, "text": "name"}
    return kinds.get(hint, ["x"] if "tuple" in str(hint) else 3)


@pytest.mark.parametrize("kind", events.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_event_has_words(tell, kind):
    fields = {f.name: _example(f.type) for f in msgspec.structs.fields(kind)}
    told = tell(evidence={"events": [{**fields, "kind": kind.__name__, "ktime_ns": ACT_NS - 10}]})
    assert kind.__name__ in _WORDS
    assert next(m for m in told.timeline if m.kind not in {"alert", "step"}).text


def test_what_the_kernel_refused_is_told_as_tried(tell):
    file = {"path": {"text": "/etc/hosts"}}
    events = [
        event("Opened", access=int(access), file=file, verdict=int(verdict))
        for access in (Access.READ, Access.READ | Access.WRITE, Access.WRITE | Access.CREATED)
        for verdict in (Verdict.CANDIDATE, Verdict.REFUSED | Verdict.CERTAIN)
    ]
    told = [m for m in tell(evidence={"events": events}).timeline if m.kind == "file"]
    assert [(moment.text, moment.refused) for moment in told] == [
        ("read /etc/hosts", False),
        ("tried to read /etc/hosts", True),
        ("wrote /etc/hosts", False),
        ("tried to write /etc/hosts", True),
        ("created /etc/hosts", False),
        ("tried to create /etc/hosts", True),
    ]


def test_the_span_of_an_incident_ends_with_it_and_begins_after_the_one_before():
    incident = Incident(
        id="i",
        session=SessionRef(id="s", name="n"),
        opened=TIME,
        title="T",
        level=Level.HIGH,
        after="2026-11-22T11:00:00.000+00:00",
    )
    assert incident.spans("2026-11-22T11:00:00.001+00:00")
    assert not incident.spans("2026-11-22T11:00:00.000+00:00")
    closed = msgspec.structs.replace(incident, until=TIME)
    assert closed.spans(TIME)
    assert not closed.spans("2026-11-22T12:00:00.001+00:00")


def test_the_bundle_unpacks_and_its_hashes_hold_even_for_text_that_is_none(tell):
    evil = {**EVIDENCE, "processes": [{"pid": 1, "argv": ["\udcff\n"]}]}
    packed = zstandard.ZstdDecompressor().decompressobj().decompress(bundle(tell(), evil))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    manifest = json.loads(files.pop("estop-i/manifest.json"))
    assert len(manifest["files"]) == len(files) == 4
    for file in manifest["files"]:
        data = files[f"estop-i/{file['name']}"]
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
