# SPDX-License-Identifier: Apache-2.0
"""The Python mirror of bpf/event.h: layouts and numbers; decoding is `decode.py`'s.

tests/contract/test_wire.py compiles event.h and compares every offset and number below.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

TEXT_CUT = 1


class Kind(IntEnum):
    """`enum estop_kind`."""

    FORK = 1
    EXEC = 2
    EXIT = 3
    OPEN = 4
    RENAME = 5
    LINK = 6
    SYMLINK = 7
    UNLINK = 8
    TRUNCATE = 9
    CHMOD = 10
    CONNECT = 11
    SEND = 12
    UNIX = 13
    DNS = 14
    TLS = 15
    CGROUP = 16
    PRIVILEGED = 17
    SIGNAL = 18


class Operation(IntEnum):
    """`enum estop_operation`; the lower-case names are what rules see."""

    IO_URING_SETUP = 1
    MEMFD_CREATE = 2
    PTRACE = 3
    VM_READ = 4
    VM_WRITE = 5
    MOUNT = 6
    UMOUNT = 7
    MOVE_MOUNT = 8
    PIVOT_ROOT = 9
    BPF = 10
    SETUID = 11
    SETGID = 12
    CAPSET = 13
    MODULE_LOAD = 14
    UNSHARE = 15
    SETNS = 16


@dataclass(frozen=True)
class Layout:
    """One C struct: its name, and its members in order with their `struct` format codes."""

    name: str
    members: tuple[tuple[str, str], ...]
    packed: struct.Struct = field(init=False)

    def __post_init__(self) -> None:
        codes = "".join(code for _, code in self.members)
        object.__setattr__(self, "packed", struct.Struct("<" + codes))

    @property
    def size(self) -> int:
        """Bytes of the struct, which is where a record's tail starts."""
        return self.packed.size


def _nested(prefix: str, members: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((f"{prefix}.{name}", code) for name, code in members)


_PATH = (("len", "I"), ("own_len", "I"), ("above_len", "I"), ("dev", "I"))
_FILE = (
    *_nested("path", _PATH),
    ("inode", "Q"),
    ("parent_inode", "Q"),
    ("mode", "I"),
    ("nlink", "I"),
)
_NAME = (*_nested("base", _PATH), ("text_len", "I"), ("reserved", "I"))
_HEADER = (
    ("size", "I"),
    ("kind", "H"),
    ("flags", "H"),
    ("ktime_ns", "Q"),
    ("egress_bytes", "Q"),
    ("session", "I"),
    ("tgid", "I"),
    ("tid", "I"),
    ("uid", "I"),
    ("mnt_ns", "I"),
    ("root_inode", "I"),
)


def _event(name: str, *members: tuple[str, str]) -> Layout:
    return Layout(name, (*_nested("header", _HEADER), *members))


HEADER = Layout("estop_header", _HEADER)
FORK = _event("estop_fork", ("child_started_ns", "Q"), ("child_tgid", "I"), ("reserved", "I"))
EXEC = _event(
    "estop_exec",
    *_nested("image", _FILE),
    *_nested("cwd", _PATH),
    ("started_ns", "Q"),
    ("parent_tgid", "I"),
    ("script_len", "I"),
    ("argv_len", "I"),
    ("argv_total", "I"),
)
EXIT = _event("estop_exit", ("code", "i"), ("reserved", "I"))
OPEN = _event(
    "estop_open", *_nested("file", _FILE), ("access", "I"), ("reserved", "I"), ("repeats", "Q")
)
NAME = _event("estop_name", *_nested("from", _NAME), *_nested("to", _NAME), ("aux", "Q"))
CONNECT = _event(
    "estop_connect",
    ("cookie", "Q"),
    ("address", "16s"),
    ("family", "H"),
    ("port", "H"),
    ("protocol", "H"),
    ("to_monitor", "H"),
)
PAYLOAD = _event(
    "estop_payload",
    ("address", "16s"),
    ("family", "H"),
    ("port", "H"),
    ("protocol", "I"),
    ("payload_len", "I"),
    ("reserved", "I"),
)
UNIX = _event("estop_unix", ("peer_tgid", "I"), ("name_len", "I"))
CGROUP = _event(
    "estop_cgroup",
    ("cgroup_id", "Q"),
    ("target_tgid", "I"),
    ("inside", "I"),
    ("path_len", "I"),
    ("reserved", "I"),
)
PRIVILEGED = _event(
    "estop_privileged",
    *((f"args[{n}]", "Q") for n in range(6)),
    ("result", "q"),
    ("operation", "I"),
    ("text_len", "I"),
)
SIGNAL = _event("estop_signal", ("signal", "i"), ("target_tgid", "I"))

LAYOUTS = (
    HEADER, FORK, EXEC, EXIT, OPEN, NAME, CONNECT, PAYLOAD, UNIX, CGROUP, PRIVILEGED, SIGNAL,
)  # fmt: skip
