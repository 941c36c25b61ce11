# SPDX-License-Identifier: Apache-2.0
"""A real server on a real socket with a real record; only the kernel side is in memory."""

from __future__ import annotations

import dataclasses
import threading

import httpx
import msgspec
import pytest

from monitor.alerts import (
    Action,
    ActionRecord,
    Alert,
    Level,
    Outcome,
    Response,
    RuleRef,
    SessionRef,
)
from monitor.api.app import create_app
from monitor.api.server import Server
from monitor.casebook import Casebook
from monitor.control import Health, RuleChanges, RuleInForce, TokenRequest
from monitor.errors import (
    RecordingError,
    RuleError,
    RuleProblem,
    SessionNotFoundError,
    SessionStateError,
)
from monitor.incidents import Grant, Role
from monitor.metrics import Metrics
from monitor.record.store import Store
from monitor.recording.taps import Taps
from monitor.subjects import Mode, Origin, Session, State

TIME = "2026-11-22T12:00:00.000+00:00"
EFFECTS = {
    "freeze": (State.FROZEN, Action.FROZEN),
    "resume": (State.RUNNING, Action.RESUMED),
    "kill": (State.KILLED, Action.KILLED),
}


class MemoryControl:
    """`monitor.control.Control` over a dict of sessions."""

    def __init__(self):
        self.known = {}
        self.rule_id = "hosts"
        self.knocks = []
        self.launches = []
        self.records = 0
        self.lock = threading.Lock()
        self.taps = Taps()
        self.broken_rules = False
        self.given = {}
        self.casebook = None

    def add(self, session, *, uid=0, state=State.RUNNING, name=""):
        self.known[session] = Session(
            id=session,
            name=name or f"name-{session}",
            state=state,
            mode=Mode.ENFORCE,
            origin=Origin.LAUNCHED,
            cgroup=f"/sys/fs/cgroup/estop/{session}",
            root_pid=4242,
            uid=uid,
            started=TIME,
        )
        return self.known[session]

    def sessions(self):
        return list(self.known.values())

    def session(self, session):
        if session in self.known:
            return self.known[session]
        raise SessionNotFoundError(f"there is no session {session!r}", mend="estop sessions")

    def launch(self, request, peer):
        self.launches.append((request, peer))
        return self.add("launched", uid=peer.uid)

    def attach(self, request, peer):
        self.launches.append((request, peer))
        return self.add("attached", uid=peer.uid)

    def freeze(self, session, *, who, why):
        return self._act("freeze", session, who=who, why=why)

    def resume(self, session, *, who, why):
        if self.session(session).state is State.KILLED:
            raise SessionStateError(f"session {session} is killed", mend="start a new one")
        return self._act("resume", session, who=who, why=why)

    def kill(self, session, *, who, why):
        return self._act("kill", session, who=who, why=why)

    def _act(self, verb, session, *, who, why):
        state, action = EFFECTS[verb]
        with self.lock:
            found = self.session(session)
            already = found.state is state
            self.known[found.id] = msgspec.structs.replace(found, state=state)
            self.records += 1
            return ActionRecord(
                id=f"r{self.records}",
                time=TIME,
                session=SessionRef(id=found.id, name=found.name),
                verb=verb,
                who=who,
                why=why,
                outcome=Outcome(action=Action.ALREADY_STOPPED if already else action),
            )

    def grant(self, session, request, *, who):
        found = self.session(session)
        made = Grant(
            id=f"g{len(self.given) + 1}",
            session=SessionRef(id=found.id, name=found.name),
            rule=request.rule,
            title="Hosts file",
            fields=dict(request.fields),
            created=TIME,
            expires=TIME,
            expires_s=1e12,
            who=who,
            why=request.why,
        )
        self.given[made.id] = made
        return made

    def grants(self):
        return list(self.given.values())

    def revoke(self, grant, *, who):
        return msgspec.structs.replace(self.given.pop(grant), revoked=TIME, revoked_by=who)

    def acknowledge(self, incident, *, who, why):
        return self.casebook.acknowledge(incident, who=who, why=why)

    def assign(self, incident, to, *, who):
        return self.casebook.assign(incident, to, who=who)

    def listen(self, session):
        tap = self.taps.open(self.session(session).id)
        if tap is None:
            raise RecordingError(f"session {session} is recorded by too many already", mend="wait")
        return tap

    def reload_rules(self):
        if self.broken_rules:
            raise RuleError([RuleProblem("rules/a.yml", 3, "unknown key `x`", "remove it")])
        return RuleChanges(rules=2, added=("New (n)",), changed=("Hosts file (hosts)",))

    def rules(self):
        return [
            RuleInForce(
                id=self.rule_id,
                title="Hosts file",
                level=Level.HIGH,
                response=Response.FREEZE,
                category="file_event",
                enforcement="held in kernel",
                enforcement_why="a test",
            )
        ]

    def health(self):
        return Health(
            ok=False,
            problems=("one program is not attached",),
            version="0",
            tier="tracepoint",
            programs={"exec": True, "open": False},
            hooks_missing=(),
            lost={},
            rules=1,
            disarmed=(),
            sessions=len(self.known),
            store={"alerts": 0, "queue": 0, "dropped": 0, "error": ""},
            uptime_s=1.0,
        )

    def refuse_supervised(self, peer):
        self.knocks.append(peer)


@dataclasses.dataclass
class Running:
    """A served API and everything behind it."""

    control: MemoryControl
    store: Store
    server: Server
    socket_path: object
    supervised: set
    token: str = ""
    behind_tcp: object = None
    tokens: object = None
    addresses: list = dataclasses.field(default_factory=list)

    def peer_of(self, address):
        """The hook by which a monitor finds the process behind a TCP client."""
        self.addresses.append(address)
        return self.behind_tcp

    def local(self, **kwargs):
        """A client on the unix socket: this test's own process, root or not."""
        transport = httpx.HTTPTransport(uds=str(self.socket_path))
        return httpx.Client(transport=transport, base_url="http://localhost/api/v1", **kwargs)

    def tcp(self, token=None, **kwargs):
        """A client on loopback TCP, with an admin's token if no other is given."""
        token = self.token if token is None else token
        host, port = self.server.address
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(
            base_url=f"http://{host}:{port}/api/v1",
            headers={**headers, **kwargs.pop("headers", {})},
            **kwargs,
        )

    def incident(self, number, *, session="s1"):
        """Record the alert of a stop, and open its incident."""
        alert = self.alert(number, session=session)
        self.control.casebook.stopped(alert, f"Sentence {number}.")
        assert self.store.flush()
        return self.store.incidents(session=session).items[0]

    def alert(self, number, *, session="s1", text="x", action=Action.FROZEN):
        """Record an alert."""
        alert = Alert(
            id=f"a{number}",
            time=TIME,
            session=SessionRef(id=session, name=f"name-{session}"),
            rule=RuleRef(id="hosts", title="Hosts file", level=Level.HIGH, tags=("attack.impact",)),
            response=Response.FREEZE,
            outcome=Outcome(action=action),
            event={"category": "file_event", "ktime_ns": 1, "fields": {"TargetFilename": text}},
        )
        assert self.store.save_alert(alert)
        assert self.store.flush()
        return alert


@pytest.fixture
def api(tmp_path, request):
    control = MemoryControl()
    metrics = Metrics()
    store = Store(tmp_path / "state" / "alerts.db", metrics=metrics)
    control.casebook = Casebook(store)
    supervised = set()
    running = Running(control, store, None, tmp_path / "run" / "estop.sock", supervised)
    app = create_app(
        control,
        store,
        metrics=metrics,
        is_supervised=supervised.__contains__,
        peer_of=running.peer_of,
        **getattr(request, "param", {}),
    )
    running.server = Server(app, socket_path=running.socket_path, address=("127.0.0.1", 0))
    running.server.start()
    running.token = app.state.monitor.tokens.create(
        TokenRequest(name="test", role=Role.ADMIN), who="a test"
    ).secret
    running.tokens = app.state.monitor.tokens
    yield running
    running.server.stop()
    store.close()
