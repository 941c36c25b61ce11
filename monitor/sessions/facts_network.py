# SPDX-License-Identifier: Apache-2.0
"""Where a session connected, and the names it asked for, as facts; it looks nothing up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from monitor import events
from monitor.fields import Fact
from monitor.sessions.live import LiveSession
from monitor.subjects import Process

_CLOUD_METADATA = frozenset(
    {
        "169.254.169.254",  # AWS, Azure, Google, Oracle, DigitalOcean, OpenStack
        "fd00:ec2::254",  # AWS
        "169.254.170.2",  # AWS: credentials of containers
        "169.254.170.23",  # AWS: of pods
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's host
    }
)
"""Where a cloud tells an instance its own credentials, by the clouds' own documentation."""


def _connected(event: events.Connected, live: LiveSession, process: Process) -> Iterable[Fact]:
    yield _connection(event, live, process, event.protocol, event.address, event.port)
    if event.to_monitor:
        own = {"Operation": "monitor_api", "Detail": f"{event.address} port {event.port}"}
        yield Fact(category="privileged_operation", fields={**live.tree.fields(process), **own})


def _unix_connected(
    event: events.UnixConnected, live: LiveSession, process: Process
) -> Iterable[Fact]:
    yield _connection(event, live, process, "unix", "", 0, DestinationHostname=event.name)


def _server_named(event: events.ServerNamed, live: LiveSession, process: Process) -> Iterable[Fact]:
    name = event.name
    yield _connection(
        event, live, process, "tcp", event.address, event.port, DestinationHostname=name
    )


def _name_asked(event: events.NameAsked, live: LiveSession, process: Process) -> Iterable[Fact]:
    to = _connection(event, live, process, event.protocol, event.address, event.port)
    fields = {**to.fields, "QueryName": event.name}
    del fields["CloudMetadata"]
    fields["FirstSeen"] = live.seen.first("dns_query", fields)
    yield Fact(category="dns_query", fields=fields)


def _connection(
    event: events.Event,
    live: LiveSession,
    process: Process,
    protocol: str,
    address: str,
    port: int,
    **extra: object,
) -> Fact:
    fields = {
        **live.tree.fields(process),
        "Protocol": protocol,
        "DestinationIp": address,
        "DestinationPort": port,
        "Initiated": True,
        "CloudMetadata": address in _CLOUD_METADATA,
        "SentBytes": event.egress_bytes,
        **extra,
    }
    fields["FirstSeen"] = live.seen.first("network_connection", fields)
    return Fact(category="network_connection", fields=fields)


MAKERS: dict[type, Callable[[Any, LiveSession, Process], Iterable[Fact]]] = {
    events.Connected: _connected,
    events.UnixConnected: _unix_connected,
    events.ServerNamed: _server_named,
    events.NameAsked: _name_asked,
}
