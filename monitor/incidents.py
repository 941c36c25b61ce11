# SPDX-License-Identifier: Apache-2.0
"""What people work with: the incident of one stop, who looks after it, and grants; data only.

These structs are the JSON of the API and of the store, field for field (`msgspec.json`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from monitor.alerts import Care, Level, SessionRef


class Standing(StrEnum):
    """Is there anything left to decide?"""

    OPEN = "open"
    RESOLVED = "resolved"


class Resolution(StrEnum):
    """How an incident came to its end."""

    NONE = ""
    RESUMED = "resumed"
    KILLED = "killed"
    ENDED = "ended"
    """Its last process ended by itself, or was ended by somebody else."""


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One stop of one session: from the stop to what a person (or the rule) made of it.

    Its alerts and actions are those of the session between `after` and `until`: what led to the stop
    since the incident before this one belongs to it too.
    """

    id: str
    session: SessionRef
    opened: str
    """RFC 3339, UTC, as all times here."""
    title: str
    """Of the rule that stopped it, or who did."""
    level: Level
    sentence: str = ""
    """What happened, for people."""
    cause: str = ""
    """Id of the alert whose rule stopped the session; empty if a person did."""
    state: Standing = Standing.OPEN
    care: Care = Care()
    resolution: Resolution = Resolution.NONE
    resolved: str = ""
    resolved_by: str = ""
    why: str = ""
    """The reason that was given with the resolution."""
    after: str = ""
    until: str = ""
    """Empty while it is open."""

    def spans(self, time: str) -> bool:
        """Did what happened then belong to it?"""
        return self.after < time and (not self.until or time <= self.until)


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A person's leave for one session to do what one rule stops, until `expires_s` (Unix time).

    `fields` narrows it to events whose fields have these values; without any it covers the rule.
    """

    id: str
    session: SessionRef
    rule: str
    title: str
    fields: dict[str, Any] = {}
    created: str
    expires: str
    expires_s: float
    who: str
    why: str
    revoked: str = ""
    """When, if it was taken back before its time."""
    revoked_by: str = ""

    def covers(self, session: str, rule: str, fields: Mapping[str, Any], now_s: float) -> bool:
        """Does it allow this match of the rule?"""
        return (
            not self.revoked
            and now_s < self.expires_s
            and (self.session.id, self.rule) == (session, rule)
            and all(str(fields.get(name)) == str(value) for name, value in self.fields.items())
        )


class Role(StrEnum):
    """What a caller of the API may do; each may do what those before it may."""

    VIEWER = "viewer"
    """Reads everything."""
    RESPONDER = "responder"
    """Freezes, resumes, kills, grants, acknowledges."""
    ADMIN = "admin"
    """Reads rules anew, makes and revokes tokens."""

    @property
    def rank(self) -> int:
        """Position on the ladder viewer < responder < admin."""
        return list(Role).index(self)


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer token of the API, without its secret: only the hash of that is kept."""

    id: str
    name: str
    role: Role
    created: str
    created_by: str
    revoked: str = ""
