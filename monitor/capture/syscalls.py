# SPDX-License-Identifier: Apache-2.0
"""Which system calls matter, and where their arguments lie: the table `on_sys_exit` asks.

Numbers are those of the kernel's arch/x86/entry/syscalls/syscall_64.tbl and syscall_32.tbl;
tests/contract/test_syscalls.py checks them against the installed <asm/unistd_*.h>. Calls that
appeared with kernel 5.x and later have one number on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from monitor.capture.wire import Kind, Operation

NO_ARG = 7
_FUNCTIONS = {
    "umount2": "umount",
    "umount": "oldumount",
    "truncate64": "ia32_truncate64",
    "ftruncate64": "ia32_ftruncate64",
}
"""SYSCALL_DEFINE knows these by another name."""
COMPAT_BASE = 512


class Handler(IntEnum):
    """`enum estop_handler` of bpf/syscall.h: which program reads the call."""

    NOTHING = 0
    OPEN = 1
    NAME = 2
    FILE = 3
    UNIX = 4
    PRIVILEGED = 5


@dataclass(frozen=True)
class Shape:
    """One system call. Argument positions count from 0; `event` is a Kind or an Operation."""

    name: str
    number: int | None
    """On x86-64."""
    compat: int | None
    """On the 32-bit entry."""
    handler: Handler
    event: int
    from_dir: int = NO_ARG
    from_text: int = NO_ARG
    to_dir: int = NO_ARG
    to_text: int = NO_ARG
    aux: int = NO_ARG

    @property
    def restarts(self) -> int:
        """RESTARTS_* of bpf/before.h: where an LSM program may have it started anew.

        Those calls give the hook's error back as it is, and have done nothing before.
        """
        return _RESTARTS.get(self.handler, 0)

    def functions(self) -> tuple[str, ...]:
        """Where arch/x86/entry may end up for it: not every kernel has all of these."""
        found: tuple[str, ...] = ()
        name = _FUNCTIONS.get(self.name, self.name)
        if self.number is not None:
            found += (f"__x64_sys_{name}",)
        if self.compat is not None:
            found += (f"__ia32_sys_{name}", f"__ia32_compat_sys_{name}")
        return found


def _open(name: str, number: int, compat: int) -> Shape:
    return Shape(name, number, compat, Handler.OPEN, Kind.OPEN)


def _op(
    name: str, number: int | None, compat: int | None, op: Operation, text: int = NO_ARG
) -> Shape:
    return Shape(name, number, compat, Handler.PRIVILEGED, op, to_text=text)


def _limit(name: str, number: int, compat: int, whom: int, change: int = NO_ARG) -> Shape:
    """`whom` is the task that it is about; where `change` is NULL, it only asks."""
    return Shape(
        name, number, compat, Handler.PRIVILEGED, Operation.LIMIT, from_text=change, aux=whom
    )


_NAME = Handler.NAME
_FILE = Handler.FILE

_RESTARTS = {Handler.OPEN: 1, Handler.NAME: 2, Handler.FILE: 2, Handler.NOTHING: 4}


def _use(name: str, number: int | None, compat: int | None) -> Shape:
    """Nobody reads it; its descriptor may be one that was not judged when it was opened."""
    return Shape(name, number, compat, Handler.NOTHING, 0)


SHAPES: tuple[Shape, ...] = (
    _open("open", 2, 5),
    _open("creat", 85, 8),
    _open("openat", 257, 295),
    _open("openat2", 437, 437),
    _open("open_by_handle_at", 304, 342),
    _open("pidfd_getfd", 438, 438),
    Shape("rename", 82, 38, _NAME, Kind.RENAME, from_text=0, to_text=1),
    Shape("renameat", 264, 302, _NAME, Kind.RENAME, 0, 1, 2, 3),
    Shape("renameat2", 316, 353, _NAME, Kind.RENAME, 0, 1, 2, 3, 4),
    Shape("link", 86, 9, _NAME, Kind.LINK, from_text=0, to_text=1),
    Shape("linkat", 265, 303, _NAME, Kind.LINK, 0, 1, 2, 3, 4),
    Shape("symlink", 88, 83, _NAME, Kind.SYMLINK, from_text=0, to_text=1),
    Shape("symlinkat", 266, 304, _NAME, Kind.SYMLINK, from_text=0, to_dir=1, to_text=2),
    Shape("unlink", 87, 10, _NAME, Kind.UNLINK, to_text=0),
    Shape("rmdir", 84, 40, _NAME, Kind.UNLINK, to_text=0),
    Shape("unlinkat", 263, 301, _NAME, Kind.UNLINK, to_dir=0, to_text=1, aux=2),
    Shape("truncate", 76, 92, _NAME, Kind.TRUNCATE, to_text=0, aux=1),
    Shape("truncate64", None, 193, _NAME, Kind.TRUNCATE, to_text=0, aux=1),
    Shape("chmod", 90, 15, _NAME, Kind.CHMOD, to_text=0, aux=1),
    Shape("fchmodat", 268, 306, _NAME, Kind.CHMOD, to_dir=0, to_text=1, aux=2),
    Shape("fchmodat2", 452, 452, _NAME, Kind.CHMOD, to_dir=0, to_text=1, aux=2),
    Shape("fchmod", 91, 94, _FILE, Kind.CHMOD, to_dir=0, aux=1),
    Shape("ftruncate", 77, 93, _FILE, Kind.TRUNCATE, to_dir=0, aux=1),
    Shape("ftruncate64", None, 194, _FILE, Kind.TRUNCATE, to_dir=0, aux=1),
    Shape("connect", 42, 362, Handler.UNIX, Kind.UNIX),
    # Which call it is comes first, and then where in memory its arguments lie.
    Shape("socketcall", None, 102, Handler.UNIX, Kind.UNIX, from_text=1),
    _op("io_uring_setup", 425, 425, Operation.IO_URING_SETUP),
    _op("memfd_create", 319, 356, Operation.MEMFD_CREATE, text=0),
    _op("fanotify_init", 300, 338, Operation.FANOTIFY_INIT),
    _op("ptrace", 101, 26, Operation.PTRACE),
    _op("process_vm_readv", 310, 347, Operation.VM_READ),
    _op("process_vm_writev", 311, 348, Operation.VM_WRITE),
    _op("mount", 165, 21, Operation.MOUNT, text=1),
    _op("umount2", 166, 52, Operation.UMOUNT, text=0),
    _op("umount", None, 22, Operation.UMOUNT, text=0),
    _op("move_mount", 429, 429, Operation.MOVE_MOUNT, text=3),
    _op("pivot_root", 155, 217, Operation.PIVOT_ROOT, text=0),
    _op("bpf", 321, 357, Operation.BPF),
    _op("setuid", 105, 213, Operation.SETUID),
    _op("setreuid", 113, 203, Operation.SETUID),
    _op("setresuid", 117, 208, Operation.SETUID),
    _op("setgid", 106, 214, Operation.SETGID),
    _op("setregid", 114, 204, Operation.SETGID),
    _op("setresgid", 119, 210, Operation.SETGID),
    # The ids of these have 16 bits: what the 32-bit entry began with.
    _op("setuid16", None, 23, Operation.SETUID),
    _op("setreuid16", None, 70, Operation.SETUID),
    _op("setresuid16", None, 164, Operation.SETUID),
    _op("setgid16", None, 46, Operation.SETGID),
    _op("setregid16", None, 71, Operation.SETGID),
    _op("setresgid16", None, 170, Operation.SETGID),
    _op("capset", 126, 185, Operation.CAPSET),
    _op("init_module", 175, 128, Operation.MODULE_LOAD),
    _op("finit_module", 313, 350, Operation.MODULE_LOAD),
    _op("unshare", 272, 310, Operation.UNSHARE),
    _op("setns", 308, 346, Operation.SETNS),
    _op("kill", 62, 37, Operation.KILL),
    _op("tkill", 200, 238, Operation.KILL),
    _op("tgkill", 234, 270, Operation.KILL),
    _op("rt_sigqueueinfo", 129, 178, Operation.KILL),
    _op("pidfd_send_signal", 424, 424, Operation.KILL),
    _limit("prlimit64", 302, 340, whom=0, change=2),
    _limit("setpriority", 141, 97, whom=1),
    _limit("ioprio_set", 251, 289, whom=1),
    _limit("sched_setparam", 142, 154, whom=0),
    _limit("sched_setscheduler", 144, 156, whom=0),
    _limit("sched_setaffinity", 203, 241, whom=0),
    _limit("sched_setattr", 314, 351, whom=0),
    _use("read", 0, 3),
    _use("pread64", 17, 180),
    _use("readv", 19, 145),
    _use("preadv", 295, 333),
    _use("preadv2", 327, 378),
    _use("write", 1, 4),
    _use("pwrite64", 18, 181),
    _use("writev", 20, 146),
    _use("pwritev", 296, 334),
    _use("pwritev2", 328, 379),
    _use("sendfile", 40, 187),
    _use("sendfile64", None, 239),
    _use("copy_file_range", 326, 377),
    _use("splice", 275, 313),
    _use("mmap", 9, 90),
    _use("mmap2", None, 192),
    _use("mprotect", 10, 125),
    _use("pkey_mprotect", 329, 380),
)


def rows() -> dict[int, Shape]:
    """Index of the kernel's table -> what the call looks like."""
    table: dict[int, Shape] = {}
    for shape in SHAPES:
        if shape.number is not None:
            table[shape.number] = shape
        if shape.compat is not None:
            table[shape.compat + COMPAT_BASE] = shape
    return table
