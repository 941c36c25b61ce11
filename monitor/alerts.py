# SPDX-License-Identifier: Apache-2.0
"""What a match becomes: the rule, the response, the outcome, the alert; data only.

These structs are the JSON of the API and of the store, field for field (`msgspec.json`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Response(StrEnum):
    """What a signature asks for, weakest first."""

    LOG = "log"
    ALERT = "alert"
    DENY = "deny"
    """The kernel refuses the act; the session goes on."""
    ASK = "ask"
    """A freeze with a question: a person says what becomes of it."""
    FREEZE = "freeze"
    KILL = "kill"

    @property
    def rank(self) -> int:
        """Position on the ladder log < alert < deny < ask < freeze < kill."""
        return _LADDER.index(self)

    @property
    def stops(self) -> bool:
        """True where the session is stopped."""
        return self in {Response.ASK, Response.FREEZE, Response.KILL}

    @property
    def holds(self) -> bool:
        """True where the kernel is to act before anybody else knows."""
        return self.stops or self is Response.DENY


_LADDER = list(Response)


class Level(StrEnum):
    """Sigma's severity levels, weakest first."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded signature, without its condition. `author` stays on every alert (Sigma's licence)."""

    id: str
    title: str
    level: Level
    response: Response
    category: str
    name: str = ""
    author: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    falsepositives: tuple[str, ...] = ()
    file: str = ""


class RuleRef(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a rule that an alert carries."""

    id: str
    title: str
    level: Level
    author: str = ""
    tags: tuple[str, ...] = ()


class SessionRef(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a session that an alert carries."""

    id: str
    name: str


class Action(StrEnum):
    """What was really done, as opposed to what the rule asked for."""

    LOGGED = "logged"
    ALERTED = "alerted"
    FROZEN = "frozen"
    KILLED = "killed"
    RESUMED = "resumed"
    WOULD_FREEZE = "would_freeze"
    WOULD_KILL = "would_kill"
    DENIED = "denied"
    """The kernel refused the act: it did not happen."""
    WOULD_DENY = "would_deny"
    ALREADY_STOPPED = "already_stopped"
    """The session was being stopped already; nothing more was needed."""
    DISARMED = "disarmed"
    """The rule stopped too many sessions in too short a time and now only alerts."""
    REFUSED = "refused"
    """A guard said no; `Outcome.detail` says which."""
    STOPPING = "stopping"
    """The network is cut and the freeze asked for; the confirmation is still to come."""
    GRANTED = "granted"
    """A person gave leave for it; `Outcome.detail` says who."""
    REVOKED = "revoked"
    """Such leave was taken back."""
    FAILED = "failed"
    """The stop was tried and could not be confirmed; `Outcome.detail` says how far it got."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The typed result of a response. `bytes_out`: left the session between the act and the cut."""

    action: Action
    detail: str = ""
    bytes_out: int | None = None


class Triage(StrEnum):
    """Has a person seen it?"""

    NEW = "new"
    ACKNOWLEDGED = "acknowledged"


class Care(msgspec.Struct, frozen=True, kw_only=True):
    """Who has seen an alert or incident, and who looks after it. Times are RFC 3339, UTC."""

    state: Triage = Triage.NEW
    by: str = ""
    time: str = ""
    why: str = ""
    assignee: str = ""
    assigned_by: str = ""
    assigned: str = ""
    """When."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One match, as recorded and as served.

    `event` is `{"category": ..., "ktime_ns": ..., "verdict": ..., "fields": {...}}` with Sigma field
    names; `verdict` is what the kernel did at once: `pass`, `hold`, or `deny` (it did not happen).
    `timings_ns` are spans counted from the event's own ktime (the act): `held`, `received`, `matched`,
    `cut` (network), `frozen`, `evidence`, `killed`, `empty`; absent where the step did not happen.
    `evidence` comes with the single alert (`/alerts/{id}`); lists and streams leave it out. `care` is
    absent until a person took note of it.
    """

    id: str
    time: str
    session: SessionRef
    rule: RuleRef
    response: Response
    outcome: Outcome
    event: dict[str, Any]
    timings_ns: dict[str, int] = {}
    evidence: dict[str, Any] | None = None
    care: Care | msgspec.UnsetType = msgspec.UNSET


class ActionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A person's (or rule's) act on a session: who, why, and what came of it."""

    id: str
    time: str
    session: SessionRef
    verb: str
    """`freeze`, `resume`, `kill`, `launch`, `attach`, `grant`, `revoke`."""
    who: str
    why: str
    outcome: Outcome
    timings_ns: dict[str, int] = {}
