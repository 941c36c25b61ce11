# SPDX-License-Identifier: Apache-2.0
"""What there is to say of an incident, if anything; in words it is `wording.py`'s."""

from __future__ import annotations

import platform
from enum import StrEnum

import msgspec

from monitor.incidents import Incident, Standing


class Kind(StrEnum):
    """What a notice is about."""

    OPENED = "incident.opened"
    RESOLVED = "incident.resolved"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to tell; `url` leads to it on the console, empty where none is configured."""

    kind: Kind
    incident: Incident
    host: str
    """The name of this machine: who runs agents on several must know which to turn to."""
    url: str = ""


class Told(msgspec.Struct, kw_only=True):
    """How far a target has been told. It is on disk, so a notice is sent again rather than lost.

    `seq` is a cursor into the incidents; `open` are those it knows to be open.
    """

    seq: int
    open: list[str] = []


def notice_of(incident: Incident, told: Told, console_url: str) -> Notice | None:
    """What the target has not heard of this incident yet; notes that people take are no news."""
    known = incident.id in told.open
    url = f"{console_url.rstrip('/')}/#/incidents/{incident.id}" if console_url else ""
    if incident.state is Standing.OPEN:
        return None if known else _notice(Kind.OPENED, incident, url)
    if known or not _noted_since(incident):
        return _notice(Kind.RESOLVED, incident, url)
    return None


def _notice(kind: Kind, incident: Incident, url: str) -> Notice:
    return Notice(kind=kind, incident=incident, host=platform.node(), url=url)


def _noted_since(incident: Incident) -> bool:
    """Was it changed after its end? Then its end was told."""
    return max(incident.care.time, incident.care.assigned) > incident.resolved


def remember(told: Told, notice: Notice) -> None:
    """It was told."""
    if notice.kind is Kind.OPENED:
        told.open.append(notice.incident.id)
    elif notice.incident.id in told.open:
        told.open.remove(notice.incident.id)
