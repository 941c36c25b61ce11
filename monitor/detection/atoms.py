# SPDX-License-Identifier: Apache-2.0
"""Comparisons that a map in the kernel can make, and what each of them decides of a rule's leaves."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import ClassVar

from monitor.detection.condition import REFERENCES, Leaf, Match
from monitor.detection.fold import holds
from monitor.lowered import Where

Network = IPv4Network | IPv6Network

_V6 = 6


@dataclass(frozen=True, slots=True)
class OnPath:
    """The field is a path that the watch (`where`, `path`) means."""

    field: str
    where: Where
    path: str

    @property
    def rank(self) -> tuple[int, int]:
        """How few paths it means: a file's last names say more than its first directories."""
        order = (Where.BELOW, Where.ENDING, Where.EXACT)
        return order.index(self.where), self.path.count("/")

    def decides(self, leaf: Leaf) -> bool | None:
        """Does the leaf hold of every path that is meant, of none, or of some?"""
        if leaf.fields != (self.field,):
            return None
        if self.where is Where.EXACT or leaf.match is Match.NULL:
            return holds(leaf, self.path)
        mine, its = self.path, str(leaf.value)
        if not leaf.cased:
            mine, its = mine.lower(), its.lower()
        if leaf.match is Match.CONTAINS:
            return True if its in mine else None
        below = self.where is Where.BELOW
        fits = str.startswith if below else str.endswith
        if leaf.match is Match.EQUALS:
            return None if fits(its, mine) else False
        if leaf.match is (Match.PREFIX if below else Match.SUFFIX):
            return True if fits(mine, its) else None if fits(its, mine) else False
        return None


@dataclass(frozen=True, slots=True)
class OnAddress:
    """`DestinationIp` is in the network (empty: any), `DestinationPort` the port (0: any)."""

    network: str = ""
    port: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        """How few addresses it means."""
        return (1, ip_network(self.network).prefixlen) if self.network else (0, 0)

    def decides(self, leaf: Leaf) -> bool | None:
        """Does the leaf hold of every address that is meant, of none, or of some?"""
        if leaf.match in REFERENCES:
            return None
        if leaf.field == "DestinationPort" and self.port:
            return holds(leaf, self.port)
        if leaf.field != "DestinationIp" or not self.network:
            return None
        mine = ip_network(self.network)
        if leaf.match is not Match.NETWORK:
            # Text is compared with text, and an IPv4 address has two spellings.
            single = mine.version == _V6 and mine.num_addresses == 1
            return holds(leaf, str(mine.network_address)) if single else None
        return inside(mine, ip_network(str(leaf.value)))


@dataclass(frozen=True, slots=True)
class OnTaint:
    """Something in the session has touched a secret; what, and which process, user space knows."""

    rank: ClassVar[tuple[int, int]] = (0, 1)
    """Few sessions ever are, so it is worth more than a port of any address."""

    def decides(self, leaf: Leaf) -> bool | None:  # noqa: ARG002 - as the others are asked
        """Whether a process bears a label is not known from its session's."""
        return None


def inside(mine: Network, its: Network) -> bool | None:
    """Is every address of the one network in the other, none, or are some?"""
    if mine.version != its.version or not mine.overlaps(its):
        return False
    return True if mine.prefixlen >= its.prefixlen else None
