# SPDX-License-Identifier: Apache-2.0
"""What the kernel does with the watches, in the plainest words: the reference for tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from monitor.fields import Fact
from monitor.lowered import Act, NetworkWatch, SocketWatch, Watch, Where

OF_TARGET = {
    ("file_access", None): Act.READ,
    ("file_event", "open"): Act.WRITE,
    ("file_event", "create"): Act.CREATE,
    ("file_event", "truncate"): Act.TRUNCATE,
    ("file_event", "link"): Act.LINK_TO,
    ("file_event", "symlink"): Act.SYMLINK,
    ("file_event", "chmod"): Act.CHMOD,
    ("file_rename", None): Act.RENAME_TO,
    ("file_delete", None): Act.DELETE,
}
OF_SOURCE = {
    ("file_event", "link"): Act.LINK_FROM,
    ("file_rename", None): Act.RENAME_FROM,
}


def acts(fact: Fact) -> Iterator[tuple[Act, str]]:
    """What is done to which path."""
    kind = (fact.category, fact.fields.get("Operation"))
    if fact.category == "process_creation":
        yield Act.EXEC, fact.fields["Image"]
    if kind in OF_TARGET:
        yield OF_TARGET[kind], fact.fields["TargetFilename"]
    if kind in OF_SOURCE:
        yield OF_SOURCE[kind], fact.fields["SourceFilename"]


def means(watch: Watch | SocketWatch, path: str) -> bool:
    if watch.where is Where.EXACT:
        return path == watch.path
    return path.startswith(watch.path) if watch.where is Where.BELOW else path.endswith(watch.path)


def found(watches: Iterable[Watch], fact: Fact, *, certain: bool = False) -> list[Watch]:
    """The watches that hold (or may refuse) what the fact tells of."""
    return [
        watch
        for watch in watches
        for act, path in acts(fact)
        if means(watch, path)
        and act in (watch.certain if certain else watch.hold)
        and fact.fields.get("Image") not in watch.exempt
    ]


def reached(watch: NetworkWatch, fields: dict[str, Any]) -> bool:
    try:
        address = ip_address(fields["DestinationIp"])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    port = not watch.ports or fields["DestinationPort"] in watch.ports
    return port and address in ip_network(watch.network)
