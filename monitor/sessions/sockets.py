# SPDX-License-Identifier: Apache-2.0
"""The network sockets that processes hold, in whatever network namespace: where each is connected to."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from pyroute2 import DiagSocket
from pyroute2.netlink.exceptions import NetlinkError

from monitor.errors import AttachError

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}
_ALL_STATES = 0xFFF
_LISTEN = 10  # TCP_LISTEN of <net/tcp_states.h>
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Held(NamedTuple):
    """A socket of a process; `port` is 0 where it did not connect to anybody."""

    cookie: int
    protocol: str
    address: str
    port: int


def held_by(pids: Iterable[int], inodes: set[int]) -> dict[int, Held]:
    """Inode -> what the kernel says of it, of those that lie where one of these processes is.

    Who was accepted by a server did not connect to anybody.
    """
    found: dict[int, Held] = {}
    for namespace in _namespaces(pids):
        try:
            for protocol, name in _PROTOCOLS.items():
                found.update(_held(_listed(namespace, protocol), inodes, name))
        finally:
            os.close(namespace)
    return found


def _held(
    listed: list[dict[str, Any]], inodes: set[int], protocol: str
) -> Iterator[tuple[int, Held]]:
    serving = {sock["idiag_sport"] for sock in listed if sock["idiag_state"] == _LISTEN}
    for sock in listed:
        if sock["idiag_inode"] in inodes:
            port = 0 if sock["idiag_sport"] in serving else sock["idiag_dport"]
            yield (
                sock["idiag_inode"],
                Held(sock["idiag_cookie"], protocol, sock["idiag_dst"], port),
            )


def _namespaces(pids: Iterable[int]) -> Iterator[int]:
    """A descriptor of each network namespace, the monitor's own first."""
    known = set()
    for pid in (os.getpid(), *pids):
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        except OSError:
            continue  # it ended
        inode = os.fstat(namespace).st_ino
        if inode in known:
            os.close(namespace)
            continue
        known.add(inode)
        yield namespace


def _listed(namespace: int, protocol: int) -> list[dict[str, Any]]:
    """All sockets of a protocol there. Only a thread can be elsewhere, so that one looks and ends."""
    with ThreadPoolExecutor(1) as elsewhere:
        looked = elsewhere.submit(_look, namespace, protocol)
    try:
        found = looked.result()
    except (OSError, NetlinkError) as error:
        raise _unlisted() from error
    if any("idiag_inode" not in sock for sock in found):  # pyroute2 hands out errors as well
        raise _unlisted()
    return found


def _look(namespace: int, protocol: int) -> list[dict[str, Any]]:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with DiagSocket() as diag:
        return [
            sock
            for family in _FAMILIES
            for sock in diag.get_sock_stats(family=family, protocol=protocol, states=_ALL_STATES)
        ]


def _unlisted() -> AttachError:
    return AttachError(
        "the kernel does not list sockets, so that they could not be cut",
        mend="modprobe -a tcp_diag udp_diag",
    )
