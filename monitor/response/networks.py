# SPDX-License-Identifier: Apache-2.0
"""Watched networks as rows of the kernel's map `watched_networks`; `weigh_address` of bpf/ reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from monitor.lowered import PORTS, NetworkWatch
from monitor.response.holds import Row

_V4_MAPPED = bytes(10) + b"\xff\xff"
_Network = tuple[int, int]
"""Length of the prefix and address, IPv4 as ::ffff:a.b.c.d."""


def network_rows(watches: Iterable[NetworkWatch]) -> dict[Row, Row]:
    """One row a network, of which each port says for itself whether it is certain; 0 is any port.

    More ports than a row holds become any port, which is held and judged: the certain ones stay.
    """
    networks: dict[_Network, dict[int, bool]] = {}
    for watch in watches:
        ports = networks.setdefault(_network(watch.network), {})
        for port in watch.ports or (0,):
            ports[port] = ports.get(port, False) or watch.certain
    lengths = sorted({length for length, _ in networks})
    rows: dict[Row, Row] = {}
    for (length, address), own in networks.items():
        wanted = dict(own)
        # The kernel finds the longest network only, so that one has to speak for those around it.
        for shorter in (n for n in lengths if n < length):
            around = networks.get((shorter, address >> (128 - shorter) << (128 - shorter)), {})
            for port, certain in around.items():
                wanted[port] = wanted.get(port, False) or certain
        rows[length, address.to_bytes(16)] = _row(wanted)
    return rows


def _network(text: str) -> _Network:
    network = ip_network(text)
    address, length = network.network_address.packed, network.prefixlen
    if network.version == 4:  # noqa: PLR2004 - IPv4
        address, length = _V4_MAPPED + address, length + 96
    return length, int.from_bytes(address)


def _row(ports: Mapping[int, bool]) -> Row:
    """`struct estop_network`."""
    if len(ports) > PORTS:
        sure = sorted(port for port, certain in ports.items() if certain)[: PORTS - 1]
        ports = {0: ports.get(0, False), **dict.fromkeys(sure, True)}
    listed = sorted(ports)
    certain = sum(1 << n for n, port in enumerate(listed) if ports[port])
    return (certain, len(listed), *listed, *(PORTS - len(listed)) * (0,))
