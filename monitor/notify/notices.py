# SPDX-License-Identifier: Apache-2.0
"""What is said of an incident, and whether there is anything to say; it sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from monitor.incidents import Incident, Standing
from monitor.text import terminal


class Kind(StrEnum):
    """What a notice is about."""

    OPENED = "incident.opened"
    RESOLVED = "incident.resolved"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to tell; `url` leads to it on the console, empty where none is configured."""

    kind: Kind
    incident: Incident
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
        return None if known else Notice(kind=Kind.OPENED, incident=incident, url=url)
    if known or not _noted_since(incident):
        return Notice(kind=Kind.RESOLVED, incident=incident, url=url)
    return None


def _noted_since(incident: Incident) -> bool:
    """Was it changed after its end? Then its end was told."""
    return max(incident.care.time, incident.care.assigned) > incident.resolved


def remember(told: Told, notice: Notice) -> None:
    """It was told."""
    if notice.kind is Kind.OPENED:
        told.open.append(notice.incident.id)
    elif notice.incident.id in told.open:
        told.open.remove(notice.incident.id)


def headline(notice: Notice) -> str:
    """One line."""
    name, title = terminal(notice.incident.session.name), terminal(notice.incident.title)
    if notice.kind is Kind.OPENED:
        return f"estop stopped {name}: {title}"
    return f"estop: {name} {notice.incident.resolution}"


def words(notice: Notice) -> str:
    """For somebody who has to decide."""
    incident = notice.incident
    name = terminal(incident.session.name)
    if notice.kind is Kind.OPENED:
        lines = [incident.sentence, "", f"It stands still until somebody decides: {notice.url}"]
        if not notice.url:
            lines[-1] = "It stands still until somebody decides:"
        lines += [f"estop incident {incident.id}", f"estop resume {name} | estop kill {name}"]
    else:
        by = f" by {terminal(incident.resolved_by)}" if incident.resolved_by else ""
        why = f": {terminal(incident.why)}" if incident.why else ""
        lines = [f"{name} was {incident.resolution}{by}{why}", notice.url]
    return "\n".join(lines).rstrip()


def digest(notices: Sequence[Notice]) -> tuple[str, str]:
    """Headline and words of many at once."""
    lines = [headline(notice) for notice in notices]
    return f"estop: {len(notices)} pieces of news", "\n".join([*lines, "", "estop incidents"])
