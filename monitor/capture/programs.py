# SPDX-License-Identifier: Apache-2.0
"""Which BPF programs there are, where each hangs, and what they are built from; nothing is loaded.

The loader (`load.py`) and the daemon's side (`pins.py`, `kernel.py`) are two processes and agree by
these tables.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from monitor.capture import syscalls
from monitor.capture.headers import KernelBuild
from monitor.capture.wire import Operation
from monitor.tier import Tier

# bcc turns only functions of the main file into programs and rewrites map calls only there, so the
# files are joined in this order; `#line` keeps the compiler's messages true.
SOURCES = (
    "maps.h",
    "scope.h",
    "emit.h",
    "path.h",
    "weigh.h",
    "verdict.h",
    "syscall.h",
    "before.h",
    "process.bpf.c",
    "file.bpf.c",
    "network.bpf.c",
    "packet.bpf.c",
    "privilege.bpf.c",
)

LSM_SOURCES = (
    "lsm.h",
    "lsm_process.bpf.c",
    "lsm_file.bpf.c",
    "lsm_name.bpf.c",
    "lsm_network.bpf.c",
    "lsm_privilege.bpf.c",
)
"""Joined behind the others, on the tier of that name only."""

# Attached last, in this order: what is asked of many acts before what is asked of few.
LSM_HOOKS = (
    "file_open", "file_permission", "file_receive", "mmap_file", "file_mprotect",
    "path_rename", "path_link", "path_unlink", "path_rmdir", "path_symlink", "path_mknod",
    "path_truncate", "file_truncate", "path_chmod",
    "bprm_check_security", "sb_mount", "move_mount", "sb_umount", "sb_pivotroot",
    "socket_create", "socket_connect", "socket_sendmsg", "unix_stream_connect", "unix_may_send",
    "ptrace_access_check", "task_kill", "task_alloc", "task_setrlimit", "task_setnice",
    "task_setscheduler", "bpf", "inode_init_security_anon", "kernel_load_data",
    "kernel_read_file", "settime",
)  # fmt: skip
LSM_PREFIX = "lsm__"
_SAME_CODE = {
    "path_rmdir": "path_unlink",
    "socket_sendmsg": "socket_connect",
    "task_setnice": "task_setrlimit",
    "task_setscheduler": "task_setrlimit",
}
"""Hooks that are handed the same and ask the same: compiled once."""

_PAGE_BYTES = 4096
_WIRE_DIGITS = 6
_BUILD_DIGITS = 12

# What leaves the machine past the cgroup programs, or reaches into the kernel's cryptography:
# AF_PACKET, RDS, CAN, TIPC, ALG, VSOCK, SMC, XDP.
_FAMILIES_PAST_THE_CUT = (17, 21, 29, 30, 38, 40, 43, 44)


class Kind(StrEnum):
    """How a program is loaded and attached."""

    RAW_TRACEPOINT = "raw_tracepoint"
    CGROUP_SKB = "cgroup_skb"
    CGROUP_ADDRESS = "cgroup_address"
    TAIL_CALL = "tail_call"
    LSM = "lsm"
    RETURN = "return"


@dataclass(frozen=True)
class Program:
    """One program. `at` is a tracepoint, an enum bpf_attach_type, a row of `handlers`, a function.

    Which functions there are is the kernel's choice: a program at one that is not there is left out.
    """

    kind: Kind
    at: str | int = ""
    tiers: tuple[Tier, ...] = tuple(Tier)
    code: str = ""
    """The function of bpf/ that it is, where that is not its name."""
    rests: bool = False
    """It hangs there only while there is a session: ordinary work of every process goes past it."""


_TRACEPOINT_ONLY = (Tier.TRACEPOINT,)
_LSM_ONLY = (Tier.LSM,)


def _tracepoint(name: str, tiers: tuple[Tier, ...] = tuple(Tier)) -> Program:
    return Program(Kind.RAW_TRACEPOINT, name, tiers)


def _handler(at: syscalls.Handler) -> Program:
    return Program(Kind.TAIL_CALL, at, _TRACEPOINT_ONLY)


_HANDLERS = {
    "on_open": syscalls.Handler.OPEN,
    "on_name": syscalls.Handler.NAME,
    "on_file": syscalls.Handler.FILE,
    "on_unix_connect": syscalls.Handler.UNIX,
    "on_privileged": syscalls.Handler.PRIVILEGED,
}


def _returns() -> dict[str, Program]:
    """Each handler at the return of each system call it reads, except of those an LSM hook tells.

    A raw tracepoint at the way out of all system calls costs every process of the machine 15 % of
    an open; these cost nothing but the calls they are at.
    """
    readers = {at: name for name, at in _HANDLERS.items() if at is not syscalls.Handler.OPEN}
    return {
        readers[shape.handler] + function: Program(
            Kind.RETURN, function, _LSM_ONLY, readers[shape.handler], rests=True
        )
        for shape in syscalls.SHAPES
        if shape.handler in readers
        for function in shape.functions()
    }


# In the order of attaching: what refuses by itself before what only tells.
PROGRAMS: dict[str, Program] = {
    **{name: _handler(at) for name, at in _HANDLERS.items()},
    "on_egress": Program(Kind.CGROUP_SKB, 1),
    "on_connect4": Program(Kind.CGROUP_ADDRESS, 10),
    "on_connect6": Program(Kind.CGROUP_ADDRESS, 11),
    "on_sendmsg4": Program(Kind.CGROUP_ADDRESS, 14),
    "on_sendmsg6": Program(Kind.CGROUP_ADDRESS, 15),
    "on_sys_exit": Program(Kind.RAW_TRACEPOINT, "sys_exit", _TRACEPOINT_ONLY, rests=True),
    **_returns(),
    "on_fork": _tracepoint("sched_process_fork"),
    "on_exec": _tracepoint("sched_process_exec"),
    "on_exit": _tracepoint("sched_process_exit"),
    "on_cgroup_attach": _tracepoint("cgroup_attach_task"),
    "on_frozen": _tracepoint("cgroup_notify_frozen"),
    "on_signal": _tracepoint("signal_generate"),
    **{
        LSM_PREFIX + hook: Program(
            Kind.LSM,
            f"bpf_lsm_{hook}",
            _LSM_ONLY,
            LSM_PREFIX + _SAME_CODE.get(hook, hook),
            rests=True,
        )
        for hook in LSM_HOOKS
    },
}


def programs_of(tier: Tier) -> dict[str, Program]:
    """The programs that a kernel of this tier gets."""
    return {name: p for name, p in PROGRAMS.items() if tier in p.tiers}


def linked(tier: Tier) -> list[str]:
    """Those of them that hang at a link of their own, in the order of attaching."""
    return [name for name, p in programs_of(tier).items() if p.kind is not Kind.TAIL_CALL]


def resting(tier: Tier) -> list[str]:
    """Those of them that hang there only while there is a session."""
    return [name for name, p in programs_of(tier).items() if p.rests]


def _short(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


@dataclass(frozen=True, kw_only=True)
class KernelSettings:
    """What the programs are built and started with. `monitor_pid` is never in scope."""

    source: Path
    header_cache: Path
    runtime_dir: Path
    """Its `bpf` directory is where everything is pinned."""
    cgroup_root: Path
    monitor_pid: int
    events_ring_mib: int = 16
    batch: int = 64
    """Records taken from a ring before the other is looked at again: in a flood an alarm waits for the
    rest of so many, which take some 5 ms. With 256 the worst stop in `make bench ONLY=crowd` took twice as
    long, and nothing was gained."""
    read_again_ms: int = 10_000
    write_again_ms: int = 100
    deadman_ms: int = 5_000
    """A monitor that gave no sign of life for so long is dead; 0: it never is."""
    opens_per_s: int = 50_000
    """Opens of one session that are sent; 0: all."""
    refused_operations: tuple[int, ...] = (
        Operation.IO_URING_SETUP,
        Operation.BPF,
        Operation.MODULE_LOAD,
    )
    """Refused to every session, where LSM programs run."""
    refused_families: tuple[int, ...] = _FAMILIES_PAST_THE_CUT
    """AF_* of which no session gets a socket, the same way."""

    def defines(self, tier: Tier) -> list[str]:
        """Options of the compiler."""
        pages = self.events_ring_mib * 1024 * 1024 // _PAGE_BYTES
        return [f"-DEVENTS_PAGES={pages}", *(["-DESTOP_LSM"] if tier is Tier.LSM else [])]

    def text(self, tier: Tier) -> str:
        """Everything that is compiled, as one file."""
        names = SOURCES + (LSM_SOURCES if tier is Tier.LSM else ())
        return "".join(f'#line 1 "{name}"\n{(self.source / name).read_text()}' for name in names)

    def digest(self, build: KernelBuild | None = None) -> str:
        """Names what would be loaded: sources, options, tables and the kernel, by default this one.

        Programs that were pinned under another digest may have other maps: they are not taken over.
        Where it begins alike, the records of both are the same: see `speaks_as`.
        """
        build = build or KernelBuild.running()
        wire = (self.source / "event.h").read_text()
        parts = [
            self.text(Tier.LSM),
            *self.defines(Tier.LSM),
            str(self.cgroup_root),
            repr(PROGRAMS),
            repr(syscalls.SHAPES),
            build.release,
            build.version,
        ]
        return _short(wire, _WIRE_DIGITS) + _short("\0".join(parts), _BUILD_DIGITS)

    @staticmethod
    def speaks_as(one: str, other: str) -> bool:
        """Do the records of two digests have one layout?"""
        return one[:_WIRE_DIGITS] == other[:_WIRE_DIGITS]

    def words(self) -> dict[str, Any]:
        """For JSON."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def of(cls, words: dict[str, Any]) -> KernelSettings:
        """From JSON."""
        paths = {"source", "header_cache", "runtime_dir", "cgroup_root"}
        known: dict[str, Any] = {n: Path(v) if n in paths else v for n, v in words.items()}
        return cls(**known)
