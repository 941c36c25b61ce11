# SPDX-License-Identifier: Apache-2.0
"""The kinds of fact there are, as the kernel meets them: which act each one is; a table.

tests/contract/facts/test_cases.py holds the facts that `sessions/facts.py` makes to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from monitor.lowered import Act


class Kind(Enum):
    """By what the kernel can know a case when it happens."""

    PATH = auto()
    ADDRESS = auto()
    SOCKET = auto()
    OPERATION = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of fact. A rule is looked at for each case of its category on its own."""

    name: str
    kind: Kind
    known: Mapping[str, Any] = field(default_factory=dict)
    """Field -> the value it has in every fact of this case; None where it is absent."""
    acts: Mapping[str, Act] = field(default_factory=dict)
    """Field that holds a path -> what is done to that path."""
    only: str = ""
    """A rule that does not ask for this field matched at an earlier case already."""
    why: str = ""
    """For a case of which the kernel side knows nothing."""


_NEVER_A_COPY = {"SelfCopy": False, "SelfNamed": None}
"""A file is compared with the agent's own when it comes to rest, or comes whole."""
_UNREAD = {**_NEVER_A_COPY, "WrittenBySession": False}
_TARGET = "TargetFilename"
_SOURCE = "SourceFilename"


def _file(name: str, acts: Mapping[str, Act], **known: object) -> Case:
    plain = {"Mode": None, _SOURCE: None} if _SOURCE not in acts else {"Mode": None}
    return Case(name, Kind.PATH, {"Operation": name, **plain, **known}, acts)


_FILE_EVENT = (
    _file("open", {_TARGET: Act.WRITE}, **_NEVER_A_COPY),
    Case(
        "create",
        Kind.PATH,
        {"Operation": "create", _SOURCE: None, **_NEVER_A_COPY},
        {_TARGET: Act.CREATE},
    ),
    _file("truncate", {_TARGET: Act.TRUNCATE}, **_UNREAD),
    _file("link", {_TARGET: Act.LINK_TO, _SOURCE: Act.LINK_FROM}),
    # What a symbolic link holds is text: it need not be the path of anything.
    Case(
        "symlink",
        Kind.PATH,
        {"Operation": "symlink", "Mode": None, **_UNREAD},
        {_TARGET: Act.SYMLINK},
    ),
    Case(
        "chmod",
        Kind.PATH,
        {"Operation": "chmod", _SOURCE: None, **_UNREAD},
        {_TARGET: Act.CHMOD},
    ),
    Case(
        "settled",
        Kind.NOTHING,
        {"Operation": "settled", "Mode": None, _SOURCE: None, "WrittenBySession": True},
        why="what a file holds is read after it was written",
    ),
)

_CONNECTED = {"Initiated": True}
_NETWORK = (
    Case("connect", Kind.ADDRESS, {**_CONNECTED, "DestinationHostname": None}),
    Case(
        "handshake",
        Kind.NOTHING,
        {**_CONNECTED, "Protocol": "tcp"},
        only="DestinationHostname",
        why="the server's name in a TLS handshake is read from a copy of the packet",
    ),
    Case(
        "unix",
        Kind.SOCKET,
        {**_CONNECTED, "Protocol": "unix", "DestinationIp": "", "DestinationPort": 0},
    ),
)

PROCESS_ACCESS = ("process_vm_readv", "process_vm_writev", "ptrace")
PRIVILEGED = (
    *("bpf", "capset", "fanotify_init", "io_uring_setup", "memfd_create", "module_load"),
    *("monitor_limit", "mount", "move_mount", "pivot_root", "setgid", "setns", "setuid", "umount"),
    "unshare",
)
_SEEN_ONLY = {
    "cgroup_birth": "it is told only where the kernel refused it",
    "cgroup_move": "who is moved need not be who moves: the record holds nobody",
    "hold_undone": "whoever does it is held whatever a rule says, or it is refused",
    "kill": "it is told only where the kernel refused it",
    "monitor_api": "the kernel refuses the connection, whatever a rule says",
    "monitor_signal": "it is told while the signal is on its way (where LSM runs, it is refused)",
    "settime": "it is told only where the kernel refused it",
    "socket": "it is told only where the kernel refused it",
}
"""Operations whose record is not made at a call's return, where its process could be held."""


def _operations(names: tuple[str, ...]) -> tuple[Case, ...]:
    return tuple(Case(name, Kind.OPERATION, {"Operation": name}) for name in names)


def _seen_only() -> tuple[Case, ...]:
    return tuple(
        Case(name, Kind.NOTHING, {"Operation": name}, why=why) for name, why in _SEEN_ONLY.items()
    )


CASES: dict[str, tuple[Case, ...]] = {
    "process_creation": (Case("exec", Kind.PATH, acts={"Image": Act.EXEC}),),
    "process_termination": (Case("exit", Kind.NOTHING, why="the end of a process cannot be held"),),
    "file_access": (Case("read", Kind.PATH, acts={_TARGET: Act.READ}),),
    "file_event": _FILE_EVENT,
    "file_rename": (
        Case("rename", Kind.PATH, acts={_TARGET: Act.RENAME_TO, _SOURCE: Act.RENAME_FROM}),
    ),
    "file_delete": (
        Case(
            "delete",
            Kind.PATH,
            {"SelfCopy": False, "WrittenBySession": False},
            {_TARGET: Act.DELETE},
        ),
    ),
    "network_connection": _NETWORK,
    "dns_query": (
        Case("question", Kind.NOTHING, why="a DNS question is read from a copy of the packet"),
    ),
    "process_access": _operations(PROCESS_ACCESS),
    "privileged_operation": (*_operations(PRIVILEGED), *_seen_only()),
}
"""category -> its cases, which together are every fact of it."""
