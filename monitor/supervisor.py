# SPDX-License-Identifier: Apache-2.0
"""What people and programs may ask of the running monitor (`control.Control`).

It joins the registry, the responder and the kernel for API threads; the pipeline does not come here.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

import psutil
import structlog
from msgspec.structs import replace
from ulid import ULID

from monitor import __version__
from monitor.alerts import Action, ActionRecord, Level, Outcome, Response, Rule, SessionRef
from monitor.capture.gate import Gate
from monitor.capture.kernel import Kernel
from monitor.casebook import Casebook
from monitor.control import (
    AttachRequest,
    GrantRequest,
    Health,
    LaunchRequest,
    Peer,
    RuleChanges,
    RuleInForce,
)
from monitor.detection.enforcement import Host
from monitor.detection.engine import Engine
from monitor.errors import (
    AttachError,
    GuardError,
    RecordingError,
    RecordNotFoundError,
    SessionStateError,
)
from monitor.incidents import Grant, Incident
from monitor.lifecycle import Lifecycle
from monitor.procfs import uids_of
from monitor.record.store import Store
from monitor.recording.taps import Tap, Taps
from monitor.responder import Responder
from monitor.response.grants import Grants
from monitor.response.killswitch import KillSwitch
from monitor.response.marks import Marks
from monitor.response.verdicts import Verdicts
from monitor.rulebook import Rulebook
from monitor.sessions import adopt
from monitor.sessions.live import LiveSession, now_text
from monitor.sessions.observer import Observer
from monitor.sessions.registry import Registry
from monitor.subjects import Session, State

_log = structlog.get_logger()

_BIRTH_S = 1.0
"""A flood can keep the pipeline from ever being done; it must not keep sessions from starting."""
_LOOK_S = 0.002
_KNOCK_S = 10.0
"""One alert for a session in this time: an agent must not fill the record by asking."""
_MARKED_S = 0.5
"""A session starts at most so much later for the sake of the gate's marks."""

API_KNOCK = Rule(
    id="estop-api-knock",
    title="A Supervised Process Asked The Monitor's API",
    level=Level.HIGH,
    response=Response.ALERT,
    category="monitor",
    author="estop",
)


class Supervisor:
    """Implements `control.Control`."""

    def __init__(
        self,
        kernel: Kernel,
        registry: Registry,
        observer: Observer,
        engine: Engine,
        responder: Responder,
        killswitch: KillSwitch,
        store: Store,
        gate: Gate,
        marks: Marks,
        verdicts: Verdicts,
        host: Host,
        rulebook: Rulebook,
        taps: Taps,
        grants: Grants,
        casebook: Casebook,
        lifecycle: Lifecycle,
    ) -> None:
        self._grants = grants
        self._casebook = casebook
        self._lifecycle = lifecycle
        self._kernel = kernel
        self._registry = registry
        self._observer = observer
        self._engine = engine
        self._responder = responder
        self._killswitch = killswitch
        self._store = store
        self._gate = gate
        self._marks = marks
        self._verdicts = verdicts
        self._host = host
        self._rulebook = rulebook
        self._taps = taps
        self._started = time.monotonic()
        self._knocked: dict[str, float] = {}
        self.undelivered: Callable[[], list[str]] = list
        """Set once there is somebody to tell of incidents."""
        self.api_alive: Callable[[], bool] = lambda: True
        """Set once the API is served: a dead API thread is otherwise noticed by nobody."""

    # Asked by people ----------------------------------------------------------------------------

    def sessions(self) -> list[Session]:
        """Living sessions and those that ended since the monitor started."""
        self._lifecycle.end_empty_ones()
        return self._registry.snapshots()

    def session(self, session: str) -> Session:
        """One session by id."""
        self._lifecycle.end_empty_ones()
        return self._registry.find(session).snapshot()

    def launch(self, request: LaunchRequest, peer: Peer) -> Session:
        """Take in a child that waits to become the agent."""
        owner = self._own_process(request.pid, peer)
        live = self._registry.launch(
            request.pid,
            name=request.name,
            argv=request.argv,
            mode=request.mode,
            uid=(uids_of(request.pid) or (peer.uid,))[0],
            home=request.home,
            owner=owner,
        )
        live.hardening = request.hardening
        self._opened(live, "launch", peer)
        self._await_judgement()
        return live.snapshot()

    def attach(self, request: AttachRequest, peer: Peer) -> Session:
        """Adopt a tree that runs already."""
        owner = self._own_process(request.pid, peer)
        live = self._registry.attach(
            request.pid, name=request.name, mode=request.mode, home=request.home, owner=owner
        )
        return self._opened(live, "attach", peer)

    def _await_judgement(self) -> None:
        """Of what a child inherited: one that must stop for it never becomes the agent."""
        born_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        deadline = time.monotonic() + _BIRTH_S
        while not self._registry.has_seen(born_ns) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)

    def _own_process(self, pid: int, peer: Peer) -> int | None:
        """The uid that all that is taken in must have, None for any; an error if the process has not."""
        owner = None if peer.trusted else peer.uid
        try:
            psutil.Process(pid)
        except (psutil.NoSuchProcess, ValueError) as error:
            raise AttachError(
                f"process {pid} does not exist", mend="look with `ps` for the agent's pid"
            ) from error
        adopt.refuse_others([pid], owner)
        return owner

    def _opened(self, live: LiveSession, verb: str, peer: Peer) -> Session:
        self._killswitch.prepare(live)
        self._marks.refresh()
        # The first open of who waits for our word is asked about too.
        self._gate.catch_up(_MARKED_S)
        snapshot = live.snapshot()
        _log.info("session.opened", session=live.id, name=live.name, origin=live.origin.value)
        self._store.save_session(snapshot)
        self._store.save_action(
            ActionRecord(
                id=str(ULID()),
                time=now_text(),
                session=SessionRef(id=live.id, name=live.name),
                verb=verb,
                who=peer.name,
                why="",
                outcome=Outcome(action=Action.LOGGED, detail=live.origin.value),
            )
        )
        return snapshot

    def freeze(self, session: str, *, who: str, why: str) -> ActionRecord:
        """Stop a session until it is resumed or killed."""
        return self._act(session, "freeze", who=who, why=why)

    def resume(self, session: str, *, who: str, why: str) -> ActionRecord:
        """Let a frozen session go on, with its network."""
        record = self._act(session, "resume", who=who, why=why)
        self._kernel.forget_touches()  # what it does again after a resume is news
        return record

    def kill(self, session: str, *, who: str, why: str) -> ActionRecord:
        """End a session and everything in it."""
        return self._act(session, "kill", who=who, why=why)

    def _act(self, session: str, verb: str, *, who: str, why: str) -> ActionRecord:
        live = self._registry.find(session)
        if verb == "kill" and live.state is State.KILLED:
            return _already(live, verb, who, why)
        self._must_be_followed(live)
        return self._responder.act(live, verb, who=who, why=why)

    def _must_be_followed(self, live: LiveSession) -> None:
        """In the slot of one that ended, or could not be attached, there may be another one by now."""
        if not live.state.alive or self._registry.live_in(live.slot) is not live:
            raise SessionStateError(
                f"session {live.id} ({live.name}) is {live.state.value}",
                mend="see `estop sessions`",
            )

    def grant(self, session: str, request: GrantRequest, *, who: str) -> Grant:
        """Let one session do for a while what one rule stops."""
        live = self._registry.find(session)
        self._must_be_followed(live)
        rule = next((one for one in self._rulebook.in_force() if one.id == request.rule), None)
        if rule is None or not rule.response.holds:
            what = (
                f"rule {rule.title} stops nothing" if rule else f"there is no rule {request.rule!r}"
            )
            raise GuardError(what, mend="grant a rule that stops: see the incident's `rule`")
        now = dt.datetime.now(dt.UTC)
        expires = now + dt.timedelta(seconds=request.for_s)
        grant = Grant(
            id=str(ULID()),
            session=SessionRef(id=live.id, name=live.name),
            rule=rule.id,
            title=rule.title,
            fields=dict(request.fields),
            created=now.isoformat(timespec="milliseconds"),
            expires=expires.isoformat(timespec="milliseconds"),
            expires_s=expires.timestamp(),
            who=who,
            why=request.why,
        )
        self._grants.add(grant, live.slot)
        self._store.save_grant(grant)
        self._granted(live, "grant", who, request.why, f"{rule.title} until {grant.expires}")
        self._kernel.forget_touches()  # what was refused before is news when it is tried again
        return grant

    def grants(self) -> list[Grant]:
        """Every grant that holds now."""
        return self._grants.in_force()

    def revoke(self, grant: str, *, who: str) -> Grant:
        """Take a grant back before its time."""
        found = self._grants.remove(grant)
        if found is None:
            raise RecordNotFoundError(f"no grant {grant!r} holds", mend="see `estop grants`")
        revoked = replace(found, revoked=now_text(), revoked_by=who)
        self._store.save_grant(revoked)
        self._granted(self._registry.find(found.session.id), "revoke", who, "", found.title)
        return revoked

    def _granted(self, live: LiveSession, verb: str, who: str, why: str, detail: str) -> None:
        self._store.save_action(
            ActionRecord(
                id=str(ULID()),
                time=now_text(),
                session=SessionRef(id=live.id, name=live.name),
                verb=verb,
                who=who,
                why=why,
                outcome=Outcome(
                    action=Action.GRANTED if verb == "grant" else Action.REVOKED, detail=detail
                ),
            )
        )

    def acknowledge(self, incident: str, *, who: str, why: str) -> Incident:
        """Somebody has seen the incident."""
        return self._casebook.acknowledge(incident, who=who, why=why)

    def assign(self, incident: str, to: str, *, who: str) -> Incident:
        """Somebody looks after the incident."""
        return self._casebook.assign(incident, to, who=who)

    def listen(self, session: str) -> Tap:
        """What rules see of a session, from now on; the caller closes it."""
        live = self._registry.find(session)
        tap = self._taps.open(live.id)
        if tap is None:
            raise RecordingError(
                f"session {live.id} ({live.name}) is recorded by too many already",
                mend="end one of the recordings",
            )
        return tap

    def rules(self) -> list[RuleInForce]:
        """Every signature, also those that are off on this host."""
        return self._rulebook.in_force()

    def reload_rules(self) -> RuleChanges:
        """Read the rules again: all of them, or the old ones stay."""
        return self._rulebook.reload()

    def refuse_supervised(self, peer: Peer) -> None:
        """A supervised process knocked at the API."""
        live = self._session_of(peer)
        now = time.monotonic()
        if live is None or now - self._knocked.get(live.id, -_KNOCK_S) < _KNOCK_S:
            return
        self._knocked[live.id] = now
        self._responder.own_alert(API_KNOCK, live, {"ProcessId": peer.pid})

    def _session_of(self, peer: Peer) -> LiveSession | None:
        if not peer.gone:
            return self._registry.live_in(self._registry.slot_of(peer.pid))
        # Its pid may be another's by now; but a session remembers those that ended last.
        living = self._registry.live()
        return next((s for s in living if any(p.pid == peer.pid for p in s.tree.family())), None)

    def is_supervised(self, pid: int) -> bool:
        """Is the process in a session? Asked for every request over the unix socket.

        So it is taken to be if it is not there: nobody can say any more whose it was.
        """
        return self._registry.slot_of(pid) != 0 or not psutil.pid_exists(pid)

    def health(self) -> Health:
        """What works and what does not, asked of the kernel and not of our memory."""
        programs = self._kernel.programs()
        lost = self._kernel.lost()
        store = self._store.health()
        problems = [f"{name} is not attached" for name, there in programs.items() if not there]
        problems += [f"{count} {hook} events were lost" for hook, count in lost.items() if count]
        problems += [f"rule {rule} failed {n} times" for rule, n in self._engine.errors.items()]
        problems += [f"rule {rule} is disarmed" for rule in self._responder.disarmer.disarmed]
        if self._gate.off:
            problems.append(f"opens are held, not refused: {self._gate.off}")
        if late := self._gate.tally.late:
            problems.append(f"{late} opens were not judged in time: fail_mode decided")
        if left_out := sum(self._verdicts.left_out().values()):
            problems.append(f"{left_out} watched files are more than the kernel can be told of")
        if store.get("error"):
            problems.append(str(store["error"]))
        if self._observer.unjudged:
            problems.append(f"{self._observer.unjudged} events could not be judged: see the log")
        if not self.api_alive():
            problems.append("the API's thread has ended")
        problems += self.undelivered()
        if self._observer.settling.dropped:
            problems.append(f"{self._observer.settling.dropped} written files were not looked at")
        return Health(
            ok=not problems,
            problems=tuple(problems),
            version=__version__,
            tier=self._host.tier,
            programs=programs,
            hooks_missing=tuple(self._kernel.missing),
            lost=lost,
            rules=len(self._engine.ruleset.rules),
            disarmed=self._responder.disarmer.disarmed,
            sessions=len(self._registry.live()),
            store=store,
            uptime_s=time.monotonic() - self._started,
        )


def _already(live: LiveSession, verb: str, who: str, why: str) -> ActionRecord:
    return ActionRecord(
        id=str(ULID()),
        time=now_text(),
        session=SessionRef(id=live.id, name=live.name),
        verb=verb,
        who=who,
        why=why,
        outcome=Outcome(action=Action.ALREADY_STOPPED),
    )
