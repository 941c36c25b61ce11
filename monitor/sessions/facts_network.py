# SPDX-License-Identifier: Apache-2.0
"""Where a session connected, and the names it asked for, as facts; it looks nothing up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from monitor import events
from monitor.fields import Fact
from monitor.sessions.live import LiveSession
from monitor.subjects import Process


def _connected(event: events.Connected, live: LiveSession, process: Process) -> Iterable[Fact]:
    yield _connection(live, process, event.protocol, event.address, event.port)
    if event.to_monitor:
        own = {"Operation": "monitor_api", "Detail": f"{event.address} port {event.port}"}
        yield Fact(category="privileged_operation", fields={**live.tree.fields(process), **own})


def _unix_connected(
    event: events.UnixConnected, live: LiveSession, process: Process
) -> Iterable[Fact]:
    yield _connection(live, process, "unix", "", 0, DestinationHostname=event.name)


def _server_named(event: events.ServerNamed, live: LiveSession, process: Process) -> Iterable[Fact]:
    name = event.name
    yield _connection(live, process, "tcp", event.address, event.port, DestinationHostname=name)


def _name_asked(event: events.NameAsked, live: LiveSession, process: Process) -> Iterable[Fact]:
    to = _connection(live, process, event.protocol, event.address, event.port)
    yield Fact(category="dns_query", fields={**to.fields, "QueryName": event.name})


def _connection(
    live: LiveSession, process: Process, protocol: str, address: str, port: int, **extra: object
) -> Fact:
    fields = {
        **live.tree.fields(process),
        "Protocol": protocol,
        "DestinationIp": address,
        "DestinationPort": port,
        "Initiated": True,
        **extra,
    }
    return Fact(category="network_connection", fields=fields)


MAKERS: dict[type, Callable[[Any, LiveSession, Process], Iterable[Fact]]] = {
    events.Connected: _connected,
    events.UnixConnected: _unix_connected,
    events.ServerNamed: _server_named,
    events.NameAsked: _name_asked,
}
