# SPDX-License-Identifier: Apache-2.0
"""The Python mirror of bpf/event.h and of the maps: layouts, numbers; decoding is `decode.py`'s.

tests/contract/test_wire.py compiles the headers and compares every offset and number below.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

from monitor.lowered import NAME_BYTES, NAMES_BYTES, PARENT_BYTES, PARENTS, PORTS

TEXT_CUT = 1
CANDIDATE = 2
CERTAIN = 4
STOPPED = 8
REFUSED = 16
BEFORE = 32


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
    SOCKET = 17
    SETTIME = 18
    CGROUP_BIRTH = 19
    KILL = 20
    LIMIT = 21
    FANOTIFY_INIT = 22
    HOLD_UNDONE = 23


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
    ("root", "I"),
    ("held_ns", "Q"),
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


def kind(record: bytes) -> int:
    """`header.kind`, for who cannot wait for the record to be decoded."""
    return int.from_bytes(record[4:6], "little")


def verdict(record: bytes) -> int:
    """The low byte of `header.flags`, the same way."""
    return record[6]


def slot(record: bytes) -> int:
    """`header.session`, the same way."""
    return int.from_bytes(record[24:28], "little")


def _number(name: str, code: str) -> Layout:
    return Layout(name, (("", code),))


_U32 = _number("__u32", "I")
_U64 = _number("__u64", "Q")

SETTINGS = Layout(
    "estop_settings",
    (
        ("monitor_tgid", "I"),
        ("session_levels", "I"),
        ("api_port", "I"),
        ("watches_below", "I"),
        ("read_again_ns", "Q"),
        ("write_again_ns", "Q"),
        ("deadman_ns", "Q"),
        ("held_operations", "Q"),
        ("opens_per_s", "Q"),
        ("refused_operations", "Q"),
        ("refused_families", "Q"),
        ("taint_connects", "I"),
        ("tick_ns", "I"),
    ),
)
TASK = Layout("estop_task_state", (("session", "I"), ("reserved", "I"), ("image_inode", "Q")))
EGRESS = Layout("estop_egress_count", (("sent_bytes", "Q"), ("cut_bytes", "Q")))
TOUCH_KEY = Layout(
    "estop_touch_key",
    (
        ("inode", "Q"),
        ("image_inode", "Q"),
        ("mount", "Q"),
        ("name_hash", "Q"),
        ("session", "I"),
        ("access", "I"),
    ),
)
TOUCH = Layout("estop_touch", (("sent_ns", "Q"), ("repeats", "Q")))

WATCH = Layout(
    "estop_watch",
    (
        ("hold", "I"),
        ("certain", "I"),
        ("hold_below", "I"),
        ("certain_below", "I"),
        ("exempt", "I"),
        ("exempt_below", "I"),
    ),
)
NAMES_KEY = Layout("estop_names_key", (("prefixlen", "I"), ("names", f"{NAMES_BYTES}s")))
INODE_KEY = Layout("estop_inode_key", (("inode", "Q"), ("dev", "I"), ("reserved", "I")))
NAME_KEY = Layout(
    "estop_name_key",
    (("parent_inode", "Q"), ("dev", "I"), ("reserved", "I"), ("name", f"{NAME_BYTES}s")),
)
LEAF_KEY = Layout("estop_leaf_key", (("name", f"{NAME_BYTES}s"),))
LEAF = Layout(
    "estop_leaf",
    (
        ("hold", "I"),
        ("hold_below", "I"),
        ("any_parent", "I"),
        ("reserved", "I"),
        *((f"parents[{n}]", f"{PARENT_BYTES}s") for n in range(PARENTS)),
    ),
)
EXEMPT_KEY = Layout("estop_exempt_key", (("image_inode", "Q"), ("group", "I"), ("reserved", "I")))
NETWORK_KEY = Layout("estop_network_key", (("prefixlen", "I"), ("address", "16s")))
NETWORK = Layout(
    "estop_network",
    (("certain", "I"), ("count", "H"), *((f"ports[{n}]", "H") for n in range(PORTS))),
)
HOLD = Layout("estop_hold", (("session", "I"), ("reason", "I"), ("ktime_ns", "Q")))
_OBJECT = (
    ("inode", "Q"),
    ("parent_inode", "Q"),
    ("name_hash", "Q"),
    ("dev", "I"),
    ("reserved", "I"),
)
QUESTION = Layout(
    "estop_question",
    (
        ("session", "I"),
        ("answer", "I"),
        ("acts", "I"),
        ("kind", "I"),
        *_nested("object", _OBJECT),
        *_nested("other", _OBJECT),
        ("mount", "Q"),
        ("image_inode", "Q"),
        ("stack", "Q"),
        ("ktime_ns", "Q"),
        ("misses", "I"),
        ("reserved", "I"),
    ),
)
BUDGET = Layout("estop_budget", (("second", "Q"), ("opens", "Q"), ("over", "Q")))

MAPS: dict[str, tuple[Layout, Layout]] = {
    "settings": (_U32, SETTINGS),
    "tasks": (_U32, TASK),
    "cgroups": (_U64, _U32),
    "session_flags": (_U32, _U32),
    "egress": (_U32, EGRESS),
    "still_since": (_U32, _U64),
    "touched": (TOUCH_KEY, TOUCH),
    "sockets": (_U64, _U32),
    "inherited_sockets": (_U64, _U32),
    "lost": (_U32, _U64),
    "lost_told": (_U32, _U64),
    "watched_paths": (NAMES_KEY, WATCH),
    "watched_inodes": (INODE_KEY, WATCH),
    "watched_names": (NAME_KEY, WATCH),
    "watched_leaves": (LEAF_KEY, LEAF),
    "watched_networks": (NETWORK_KEY, NETWORK),
    "exempt_programs": (EXEMPT_KEY, _U32),
    "candidates": (_U32, _U64),
    "answers": (_U32, _U64),
    "answered_ns": (_U32, _U64),
    "unsent": (_U32, _U64),
    "given_up": (_U32, _U64),
    "held": (_U32, HOLD),
    "questions": (_U32, QUESTION),
    "budgets": (_U32, BUDGET),
    "crowded": (_U32, _U64),
    "beat": (_U32, _U64),
    "displaced": (_U32, _U64),
}
"""Map of bpf/ -> its key and its value; what `Kernel.map` hands out."""

CELLS = frozenset(
    (
        "session_flags",
        "egress",
        "still_since",
        "lost",
        "lost_told",
        "candidates",
        "answers",
        "answered_ns",
        "unsent",
        "given_up",
        "crowded",
        "beat",
        "displaced",
    )
)
"""Those of them that we have in our own memory."""

MAP_LAYOUTS = (
    SETTINGS, TASK, EGRESS, TOUCH_KEY, TOUCH, WATCH, NAMES_KEY, INODE_KEY, NAME_KEY, LEAF_KEY, LEAF,
    EXEMPT_KEY, NETWORK_KEY, NETWORK, HOLD, QUESTION, BUDGET,
)  # fmt: skip

LIVE = 1
QUARANTINED = 2
OBSERVED = 4
GRANTED = 8
TAINTED = 16
MAX_LEVEL = 12
