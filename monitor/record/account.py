# SPDX-License-Identifier: Apache-2.0
"""An incident told from the record: who did it, what led to it, what got out. It only reads.

The events are those in the evidence, which ends with the stop; the rest are alerts, the steps of the
stop and what people did.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import msgspec

from monitor.alerts import ActionRecord, Alert
from monitor.control import RuleInForce
from monitor.events import Access, Verdict
from monitor.incidents import Incident
from monitor.record.sentence import shown
from monitor.subjects import Session

_MAX_TREE = 300
_STEPS = ("held", "cut", "frozen", "evidence", "killed", "empty")
_STEP_WORDS = {
    "held": "held in the kernel",
    "cut": "network cut",
    "frozen": "every process frozen",
    "evidence": "evidence taken",
    "killed": "killed",
    "empty": "no process left",
}


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the session. `guilty` marks the one that did it and those above it."""

    pid: int
    parent_pid: int
    image: str
    argv: tuple[str, ...]
    started_ns: int = 0
    guilty: bool = False
    alive: bool = False


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something on the timeline; `at_ms` counts from the act, and is negative before it."""

    at_ms: float
    kind: str
    """`exec`, `file`, `network`, `process`, `privilege`, `alert`, `action` or `step`."""
    text: str
    pid: int = 0
    time: str = ""
    alert: str = ""
    guilty: bool = False
    refused: bool = False
    """The kernel said no: it was tried, and did not happen."""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """Where the session connected to, as far as the evidence reaches back."""

    address: str
    port: int
    host: str
    count: int
    local: bool = False
    """It is this machine itself, where another program may pass it on."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What it sent, to this machine too: after the act, and in the session's whole life until then."""

    bytes: int | None
    total_bytes: int | None
    destinations: tuple[Destination, ...]


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is not what it was, as far as the evidence reaches back."""

    path: str
    did: str
    """`created`, `wrote`, `moved here`, `linked`, `changed the permissions` or `deleted`."""


class Account(Incident, frozen=True, kw_only=True):
    """An incident with all that belongs to it, oldest first."""

    alerts: tuple[Alert, ...]
    actions: tuple[ActionRecord, ...]
    tree: tuple[Branch, ...]
    timeline: tuple[Moment, ...]
    changed: tuple[Changed, ...]
    sent: Sent
    rule: RuleInForce | None
    session_now: Session


def account(
    incident: Incident,
    session: Session,
    alerts: Sequence[Alert],
    actions: Sequence[ActionRecord],
    evidence: Mapping[str, Any] | None,
    rule: RuleInForce | None,
) -> Account:
    """Everything of one incident. `alerts` and `actions` are those of its time, oldest first."""
    cause = next((alert for alert in alerts if alert.id == incident.cause), None)
    events: list[dict[str, Any]] = list((evidence or {}).get("events", ()))
    act_ns = cause.event["ktime_ns"] if cause else max((_ktime(e) for e in events), default=0)
    guilty = _lineage(evidence or {}, _pid_of(cause))
    moments = [
        *_of_events(events, act_ns, _pid_of(cause)),
        *_of_alerts(alerts, incident.opened if cause is None else act_ns),
        *_of_steps(cause),
        *_of_actions(actions, cause.time if cause else incident.opened),
    ]
    return Account(
        **{name: getattr(incident, name) for name in incident.__struct_fields__},
        alerts=tuple(msgspec.structs.replace(alert, evidence=None) for alert in alerts),
        actions=tuple(actions),
        tree=tuple(_tree(evidence or {}, guilty)),
        timeline=tuple(sorted(moments, key=lambda moment: moment.at_ms)),
        changed=_changed(events),
        sent=_sent(cause, events),
        rule=rule,
        session_now=session,
    )


# Processes ------------------------------------------------------------------------------------------


def _pid_of(alert: Alert | None) -> int:
    return int(alert.event.get("fields", {}).get("ProcessId") or 0) if alert else 0


def _lineage(evidence: Mapping[str, Any], pid: int) -> set[int]:
    """The process and those above it."""
    parents = {p["pid"]: p.get("parent_pid", 0) for p in _processes(evidence)}
    found: set[int] = set()
    while pid in parents and pid not in found:
        found.add(pid)
        pid = parents[pid]
    return found


def _processes(evidence: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = evidence.get("tree") or evidence.get("processes") or []
    return found


def _tree(evidence: Mapping[str, Any], guilty: set[int]) -> Iterator[Branch]:
    alive = {process["pid"] for process in evidence.get("processes", ())}
    for process in list(_processes(evidence))[-_MAX_TREE:]:
        yield Branch(
            pid=process["pid"],
            parent_pid=process.get("parent_pid", 0),
            image=process.get("image", ""),
            argv=tuple(process.get("argv", ())),
            started_ns=process.get("started_ns", 0),
            guilty=process["pid"] in guilty,
            alive=process["pid"] in alive,
        )


# Timeline -------------------------------------------------------------------------------------------


def _ktime(event: Mapping[str, Any]) -> int:
    return int(event.get("ktime_ns", 0))


def _of_events(events: Iterable[Mapping[str, Any]], act_ns: int, guilty: int) -> Iterator[Moment]:
    for event in events:
        known = _WORDS.get(str(event.get("kind")))
        if known is None:
            continue
        kind, did, tries = known
        pid = int(event.get("tgid", 0))
        refused = Verdict.REFUSED in Verdict(event.get("verdict", 0))
        yield Moment(
            at_ms=round((_ktime(event) - act_ns) / 1e6, 3),
            kind=kind,
            text=f"tried to {_filled(tries, event)}" if refused else _filled(did, event),
            pid=pid,
            guilty=pid == guilty and _ktime(event) == act_ns,
            refused=refused,
        )


_WORDS = {
    "Forked": ("process", "started process {child}", "start process {child}"),
    "Executed": ("exec", "ran {argv}", "run {argv}"),
    "Exited": ("process", "ended with code {code}", "end with code {code}"),
    "Opened": ("file", "{access} {file}", "{access} {file}"),
    "Renamed": ("file", "moved {source} to {target}", "move {source} to {target}"),
    "Linked": ("file", "linked {source} as {target}", "link {source} as {target}"),
    "Symlinked": ("file", "made {target} a link to {text}", "make {target} a link to {text}"),
    "Unlinked": ("file", "deleted {target}", "delete {target}"),
    "Truncated": ("file", "cut {target} to {size} bytes", "cut {target} to {size} bytes"),
    "ModeChanged": (
        "file",
        "changed the permissions of {target}",
        "change the permissions of {target}",
    ),
    "Connected": (
        "network",
        "connected to {address} port {port} ({protocol})",
        "connect to {address} port {port} ({protocol})",
    ),
    "UnixConnected": ("network", "connected to {name}", "connect to {name}"),
    "NameAsked": ("network", "asked for {name}", "ask for {name}"),
    "ServerNamed": (
        "network",
        "TLS to {name} ({address} port {port})",
        "speak TLS to {name} ({address} port {port})",
    ),
    "CgroupMoved": (
        "privilege",
        "moved process {target} to {path}",
        "move process {target} to {path}",
    ),
    "Privileged": ("privilege", "called {operation} {text}", "call {operation} {text}"),
    "Signalled": (
        "privilege",
        "sent the monitor signal {signal}",
        "send the monitor signal {signal}",
    ),
}
"""Of each kind of event: where it belongs, what was done, and what was tried."""


def _filled(template: str, event: Mapping[str, Any]) -> str:
    words = {name: _word(name, value) for name, value in event.items()}
    if "access" in event:
        words["access"] = _opening(event)
    return template.format(**words)


def _opening(event: Mapping[str, Any]) -> str:
    access = Access(event["access"])
    if Verdict.REFUSED in Verdict(event.get("verdict", 0)):
        did = {Access.CREATED: "create", Access.WRITE: "write"}
    else:
        did = {Access.CREATED: "created", Access.WRITE: "wrote"}
    return next((word for bit, word in did.items() if bit in access), "read")


def _word(name: str, value: Any) -> str:  # noqa: ANN401 - an event's field, as JSON has it
    if name == "argv":
        return shown(" ".join(value))
    if isinstance(value, Mapping):
        path = value.get("path")
        text = path["text"] if isinstance(path, Mapping) else value.get("text", "")
        base = value.get("base")
        under = f"{base['text']}/" if isinstance(base, Mapping) else ""
        return shown(f"{under}{text}")
    return shown(value)


def _of_alerts(alerts: Iterable[Alert], act: int | str) -> Iterator[Moment]:
    """`act` is its ktime; or its wall time where a person stopped the session."""
    for alert in alerts:
        if isinstance(act, str):
            at_ms = _ms_between(act, alert.time)
        else:
            at_ms = (int(alert.event.get("ktime_ns", act)) - act) / 1e6
        yield Moment(
            at_ms=round(at_ms, 3),
            kind="alert",
            text=f"{alert.rule.title}: {alert.outcome.action.replace('_', ' ')}",
            pid=_pid_of(alert),
            time=alert.time,
            alert=alert.id,
        )


def _of_steps(cause: Alert | None) -> Iterator[Moment]:
    timings = cause.timings_ns if cause else {}
    for step in _STEPS:
        if step in timings:
            yield Moment(at_ms=round(timings[step] / 1e6, 3), kind="step", text=_STEP_WORDS[step])


def _of_actions(actions: Iterable[ActionRecord], act: str) -> Iterator[Moment]:
    for action in actions:
        why = f": {shown(action.why)}" if action.why else ""
        yield Moment(
            at_ms=_ms_between(act, action.time),
            kind="action",
            text=f"{action.verb} by {shown(action.who)}{why}",
            time=action.time,
        )


def _ms_between(one: str, other: str) -> float:
    away = dt.datetime.fromisoformat(other) - dt.datetime.fromisoformat(one)
    return round(away / dt.timedelta(milliseconds=1), 3)


# What stays done ------------------------------------------------------------------------------------

_DID = {
    "Linked": "linked",
    "Symlinked": "linked",
    "Truncated": "wrote",
    "ModeChanged": "changed the permissions",
}
_MAX_CHANGED = 200
_NO_FILES = ("/dev/", "/proc/", "/sys/")
_FILES_AFTER_ALL = "/dev/shm/"  # noqa: S108 - a place like any other: what is left there is left


def _changed(events: Iterable[Mapping[str, Any]]) -> tuple[Changed, ...]:
    """The latest last; what was made and is gone again is left out."""
    found: dict[str, str] = {}

    def note(path: str, did: str) -> None:
        # Who created a file and then wrote it has created it.
        found[path] = "created" if found.pop(path, "") == "created" else did

    for event in events:
        kind = str(event.get("kind"))
        if Verdict.REFUSED in Verdict(event.get("verdict", 0)):
            continue
        if kind == "Opened":
            access = Access(event["access"])
            if Access.CREATED in access or Access.WRITE in access:
                did = "created" if Access.CREATED in access else "wrote"
                note(_word("file", event["file"]), did)
        elif kind == "Renamed":
            was = found.pop(_word("source", event["source"]), "")
            note(_word("target", event["target"]), "created" if was == "created" else "moved here")
        elif kind == "Unlinked":
            path = _word("target", event["target"])
            if found.pop(path, "") != "created":
                found[path] = "deleted"
        elif kind in _DID:
            note(_word("target", event["target"]), _DID[kind])
    changed = [Changed(path=path, did=did) for path, did in found.items() if _is_file(path)]
    return tuple(changed[-_MAX_CHANGED:])


def _is_file(path: str) -> bool:
    if path.startswith(_FILES_AFTER_ALL):
        return True
    return path.startswith("/") and not path.startswith(_NO_FILES)


# What got out ---------------------------------------------------------------------------------------


def _sent(cause: Alert | None, events: Sequence[Mapping[str, Any]]) -> Sent:
    names = {
        (event["address"], event["port"]): event["name"]
        for event in events
        if event.get("kind") == "ServerNamed"
    }
    places = Counter(
        (str(event["address"]), int(event["port"]))
        for event in events
        if event.get("kind") == "Connected"
    )
    return Sent(
        bytes=cause.outcome.bytes_out if cause else None,
        total_bytes=max((int(event.get("egress_bytes", 0)) for event in events), default=None),
        destinations=tuple(
            Destination(
                address=address,
                port=port,
                host=names.get((address, port), ""),
                count=n,
                local=_is_local(address),
            )
            for (address, port), n in places.most_common()
        ),
    )


def _is_local(address: str) -> bool:
    """0.0.0.0 leads here, too."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_loopback or ip.is_unspecified
