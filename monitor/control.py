# SPDX-License-Identifier: Apache-2.0
"""The seam between the API and the running monitor: what may be asked of it, and the answers."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import msgspec

from monitor.alerts import ActionRecord, Rule
from monitor.incidents import Grant, Incident, Role, Token
from monitor.recording.taps import Tap
from monitor.subjects import Mode, Session

PathText = Annotated[str, msgspec.Meta(max_length=4096)]
"""No longer than PATH_MAX."""
SessionName = Annotated[str, msgspec.Meta(max_length=200)]


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `supervised` is true for a process of a session, which may ask nothing at all."""

    uid: int
    pid: int = 0
    name: str = ""
    """For records: `uid 1000 (ann)` over the unix socket, `token NAME` over TCP."""
    trusted: bool = False
    """Root, the monitor's own user, or the bearer of a token: sees every session."""
    role: Role = Role.RESPONDER
    supervised: bool = False
    gone: bool = False
    """The process that connected has ended, so nobody can say whose it was."""


class LaunchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`estop run`: adopt the stopped-at-birth child `pid`, which will exec `argv` when told."""

    pid: int
    name: SessionName
    argv: tuple[str, ...]
    mode: Mode = Mode.ENFORCE
    home: PathText = ""
    """The agent's home directory (its program's own files are found from argv)."""
    hardening: tuple[str, ...] = ()
    """What the child is under already: see `Session.hardening`."""


class AttachRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`estop attach`: adopt the tree under `pid`, which already runs."""

    pid: int
    name: SessionName = ""
    mode: Mode = Mode.ENFORCE
    home: PathText = ""


class ActRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For freeze, resume, kill, acknowledge: `why` is kept in the record."""

    why: str = ""


class AssignRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who looks after an alert or incident from now on; nobody, if `to` is empty."""

    to: Annotated[str, msgspec.Meta(max_length=200)] = ""


class GrantRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Leave to do what one rule (by id) stops, for `for_s` seconds, where `fields` have these values."""

    rule: str
    fields: dict[str, str | int | bool] = {}
    for_s: Annotated[int, msgspec.Meta(ge=1, le=30 * 86_400)] = 3600
    why: str = ""


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new token; `name` is how records call its bearer."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    role: Role = Role.RESPONDER


class NewToken(Token, frozen=True, kw_only=True):
    """A token with its secret, which nobody can be told a second time."""

    secret: str


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who the caller is to the monitor."""

    name: str
    role: Role


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Honest state of the monitor. `ok` is false if anything below is not as it should be."""

    ok: bool
    problems: tuple[str, ...]
    version: str
    tier: str
    programs: dict[str, bool]
    """Expected BPF program -> is it attached?"""
    hooks_missing: tuple[str, ...]
    """LSM hooks that this kernel lacks: what would be refused there is not."""
    lost: dict[str, int]
    """Hook -> events that were not sent since the programs were loaded, by an earlier monitor too."""
    rules: int
    disarmed: tuple[str, ...]
    sessions: int
    store: dict[str, Any]
    """`{"alerts": n, "queue": n, "dropped": n, "error": "" }`."""
    uptime_s: float


class RuleInForce(Rule, frozen=True, kw_only=True):
    """A rule as the API shows it: with what it is worth on this host."""

    enforcement: str
    """`prevented in kernel`, `held in kernel`, `detected in user space` or `off: reason`."""
    enforcement_why: str


class RuleChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload came to; each rule as `TITLE (ID)`."""

    rules: int
    """How many can fire now."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


class Control(Protocol):
    """What `supervisor.py` offers to the API. Every method may raise `errors.EstopError`.

    `session` arguments take an id. Methods are called from API threads.
    """

    def sessions(self) -> list[Session]:
        """Living sessions and those that ended since the monitor started."""
        ...

    def session(self, session: str) -> Session:
        """One session."""
        ...

    def launch(self, request: LaunchRequest, peer: Peer) -> Session:
        """Take in a child that waits to become the agent."""
        ...

    def attach(self, request: AttachRequest, peer: Peer) -> Session:
        """Adopt a tree that runs already."""
        ...

    def freeze(self, session: str, *, who: str, why: str) -> ActionRecord:
        """Stop a session until it is resumed or killed."""
        ...

    def resume(self, session: str, *, who: str, why: str) -> ActionRecord:
        """Let a frozen session go on, with its network."""
        ...

    def kill(self, session: str, *, who: str, why: str) -> ActionRecord:
        """End a session and everything in it."""
        ...

    def listen(self, session: str) -> Tap:
        """What rules see of a session, from now on; the caller closes it."""
        ...

    def rules(self) -> list[RuleInForce]:
        """Every signature, also those that are off on this host."""
        ...

    def reload_rules(self) -> RuleChanges:
        """Read the rules again: all of them, or the old ones stay and a RuleError says why."""
        ...

    def grant(self, session: str, request: GrantRequest, *, who: str) -> Grant:
        """Let one session do for a while what one rule stops."""
        ...

    def grants(self) -> list[Grant]:
        """Every grant that holds now."""
        ...

    def revoke(self, grant: str, *, who: str) -> Grant:
        """Take a grant back before its time."""
        ...

    def acknowledge(self, incident: str, *, who: str, why: str) -> Incident:
        """Somebody has seen the incident."""
        ...

    def assign(self, incident: str, to: str, *, who: str) -> Incident:
        """Somebody looks after the incident."""
        ...

    def health(self) -> Health:
        """What works and what does not."""
        ...

    def refuse_supervised(self, peer: Peer) -> None:
        """Record that a supervised process knocked at the API (it is told 403)."""
        ...
