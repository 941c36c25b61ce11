# SPDX-License-Identifier: Apache-2.0
"""The BPF programs: compiled, attached, read and told about sessions; the only importer of bcc.

supported()  can this host run them? (`monitor/requirements.py` answers in full)
load()       compile once, load and attach everything, or nothing
read()       the next batch of records
close()      detach everything
"""

from __future__ import annotations

import ctypes
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from monitor.capture import syscalls
from monitor.capture.headers import header_tree
from monitor.capture.links import link_cgroup, link_is_attached
from monitor.errors import CaptureError

# bcc turns only functions of the main file into programs and rewrites map calls only there, so the
# files are joined in this order; `#line` keeps the compiler's messages true.
SOURCES = (
    "maps.h",
    "scope.h",
    "emit.h",
    "path.h",
    "syscall.h",
    "process.bpf.c",
    "file.bpf.c",
    "network.bpf.c",
    "privilege.bpf.c",
)

RAW_TRACEPOINTS = {
    "on_sys_exit": "sys_exit",
    "on_fork": "sched_process_fork",
    "on_exec": "sched_process_exec",
    "on_exit": "sched_process_exit",
    "on_cgroup_attach": "cgroup_attach_task",
    "on_signal": "signal_generate",
}

TAIL_CALLS = {
    "on_open": syscalls.Handler.OPEN,
    "on_name": syscalls.Handler.NAME,
    "on_file": syscalls.Handler.FILE,
    "on_unix_connect": syscalls.Handler.UNIX,
    "on_privileged": syscalls.Handler.PRIVILEGED,
}

# program -> (bcc's program type, enum bpf_attach_type)
CGROUP_HOOKS = {
    "on_egress": ("CGROUP_SKB", 1),
    "on_connect4": ("CGROUP_SOCK_ADDR", 10),
    "on_connect6": ("CGROUP_SOCK_ADDR", 11),
    "on_sendmsg4": ("CGROUP_SOCK_ADDR", 14),
    "on_sendmsg6": ("CGROUP_SOCK_ADDR", 15),
}

LOST_HOOKS = (
    "fork", "exec", "exit", "open", "name", "connect", "send", "unix", "payload", "cgroup",
    "privileged", "signal", "tasks",
)  # fmt: skip

_LIVE = 1
_QUARANTINED = 2
_MAX_LEVEL = 12
"""Of bpf/maps.h."""
_PAGE_BYTES = 4096
_STOP_CONSUMING = -1


@dataclass(frozen=True, kw_only=True)
class KernelSettings:
    """What the programs are built and started with. `monitor_pid` is never in scope."""

    source: Path
    header_cache: Path
    cgroup_root: Path
    monitor_pid: int
    events_ring_mib: int = 16
    batch: int = 256
    """Records taken from a ring before the other is looked at again."""
    read_again_ms: int = 10_000
    write_again_ms: int = 100


class Kernel:
    """Loaded and attached programs. Map writes are thread-safe; `read` belongs to one thread."""

    def __init__(self, settings: KernelSettings) -> None:
        self._settings = settings
        self._links: dict[str, int] = {}
        self._rings: list[tuple[int, Any]] = []
        self._batch: list[bytes] = []
        self._enough = 0
        self._api_port = 0
        self.behind = False
        """True while the last read left records in a ring."""
        self._levels: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._epoll = select.epoll()
        self._bcc, self._lib, self._ring_callback = _import_bcc(settings)
        self._bpf = self._compile()
        self._flags = self._bpf[b"session_flags"]
        self._write_settings()

    def _compile(self) -> Any:  # noqa: ANN401 - bcc has no types
        parts = [
            f'#line 1 "{name}"\n{(self._settings.source / name).read_text()}' for name in SOURCES
        ]
        pages = self._settings.events_ring_mib * 1024 * 1024 // _PAGE_BYTES
        flags = [f"-I{self._settings.source}", f"-DEVENTS_PAGES={pages}", "-Wno-macro-redefined"]
        try:
            return self._bcc.BPF(text="".join(parts).encode(), cflags=flags)
        except Exception as error:
            raise CaptureError(
                f"the BPF programs do not compile: {error}", mend="run `estop doctor`"
            ) from error

    def attach(self) -> None:
        """Load and attach every program; on any failure nothing stays attached."""
        try:
            self._fill_tables()
            self._attach_cgroup_hooks()
            self._open_rings()
            for program, tracepoint in RAW_TRACEPOINTS.items():
                loaded = self._load(program, "RAW_TRACEPOINT")
                fd = self._lib.bpf_attach_raw_tracepoint(loaded.fd, tracepoint.encode())
                self._links[program] = _attached(fd, program, tracepoint)
        except Exception:
            self.close()
            raise

    def _load(self, program: str, kind: str, attach_type: int = -1) -> Any:  # noqa: ANN401
        try:
            return self._bpf.load_func(
                program.encode(), getattr(self._bcc.BPF, kind), attach_type=attach_type
            )
        except Exception as error:
            raise CaptureError(
                f"the kernel does not load {program}: {error}", mend="run `estop doctor`"
            ) from error

    def _fill_tables(self) -> None:
        for program, slot in TAIL_CALLS.items():
            loaded = self._load(program, "RAW_TRACEPOINT")
            self._bpf[b"handlers"][ctypes.c_int(slot)] = ctypes.c_int(loaded.fd)
        table = self._bpf[b"syscalls"]
        for index, shape in syscalls.rows().items():
            table[ctypes.c_int(index)] = table.Leaf(
                shape.handler,
                shape.event,
                shape.from_dir,
                shape.from_text,
                shape.to_dir,
                shape.to_text,
                shape.aux,
                0,
            )

    def _attach_cgroup_hooks(self) -> None:
        root = os.open(self._settings.cgroup_root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for program, (kind, attach_type) in CGROUP_HOOKS.items():
                wanted = attach_type if kind == "CGROUP_SOCK_ADDR" else -1
                loaded = self._load(program, kind, wanted)
                self._links[program] = link_cgroup(loaded.fd, root, attach_type, program)
        finally:
            os.close(root)

    def _open_rings(self) -> None:
        def take(_context: int, data: int, size: int) -> int:
            # An exception here is swallowed by ctypes and libbpf gets a garbage answer: copy, no more.
            self._batch.append(ctypes.string_at(data, size))
            return _STOP_CONSUMING if len(self._batch) >= self._enough else 0

        self._take = self._ring_callback(take)  # ctypes keeps no reference of its own
        # Events first: whatever an event builds on (a fork) is then in the alarms read after it.
        for name in ("events", "alarms"):
            fd = self._bpf[name.encode()].map_fd
            self._rings.append((fd, self._lib.bpf_new_ringbuf(fd, self._take, None)))
            self._epoll.register(fd, select.EPOLLIN)

    def read(self, timeout_ms: int) -> list[bytes]:
        """Up to `batch` records of each ring, waiting at most `timeout_ms` for the first.

        A flood fills its own ring and its own share of the batch, and no more.
        """
        with suppress(InterruptedError):
            self._epoll.poll(timeout_ms / 1000)
        self._batch = []
        self.behind = False
        for _, ring in self._rings:
            self._enough = len(self._batch) + self._settings.batch
            self._lib.bpf_consume_ringbuf(ring)
            self.behind |= len(self._batch) >= self._enough
        return self._batch

    # What the programs are told -----------------------------------------------------------------

    def _write_settings(self) -> None:
        table = self._bpf[b"settings"]
        levels = 0
        for _, level in self._levels.values():
            levels |= 1 << level
        table[ctypes.c_int(0)] = table.Leaf(
            self._settings.monitor_pid,
            levels,
            self._api_port,
            0,
            self._settings.read_again_ms * 1_000_000,
            self._settings.write_again_ms * 1_000_000,
        )

    def refuse_port(self, port: int) -> None:
        """Refuse every session a connection to this port on loopback: it is the monitor's own."""
        with self._lock:
            self._api_port = port
            self._write_settings()

    def watch(self, slot: int, cgroup_id: int, level: int) -> None:
        """Put a cgroup and all below it in scope. `level` counts from the root, which is refused."""
        if slot < 1 or cgroup_id < 1 or level < 1:
            raise CaptureError(f"slot {slot}, cgroup {cgroup_id}, level {level}: would match all")
        if level > _MAX_LEVEL:
            raise CaptureError(
                f"a cgroup {level} levels below the root cannot be followed",
                mend=f"use one at most {_MAX_LEVEL} levels deep",
            )
        with self._lock:
            self._bpf[b"egress"][ctypes.c_int(slot)] = self._bpf[b"egress"].Leaf(0, 0)
            self._bpf[b"session_flags"][ctypes.c_int(slot)] = ctypes.c_uint(_LIVE)
            self._bpf[b"cgroups"][ctypes.c_ulonglong(cgroup_id)] = ctypes.c_uint(slot)
            self._levels[slot] = (cgroup_id, level)
            self._write_settings()

    def forget(self, slot: int) -> None:
        """Take a session out of scope: its cgroup and every task and socket that is left."""
        with self._lock:
            cgroup_id, _ = self._levels.pop(slot, (0, 0))
            if cgroup_id:
                with suppress(KeyError):
                    del self._bpf[b"cgroups"][ctypes.c_ulonglong(cgroup_id)]
            self._write_settings()
            for table in (self._bpf[b"tasks"], self._bpf[b"sockets"]):
                for key, leaf in list(table.items()):
                    if (leaf.session if hasattr(leaf, "session") else leaf.value) == slot:
                        with suppress(KeyError):
                            del table[key]
            self._bpf[b"session_flags"][ctypes.c_int(slot)] = ctypes.c_uint(0)

    def watch_task(self, slot: int, pid: int) -> None:
        """Put a process in scope; what it forks from now on follows in the kernel."""
        table = self._bpf[b"tasks"]
        table[ctypes.c_uint(pid)] = table.Leaf(slot, 0, 0)

    def forget_task(self, pid: int) -> None:
        """Take one process out of scope; what it forked stays."""
        with suppress(KeyError):
            del self._bpf[b"tasks"][ctypes.c_uint(pid)]

    def task_slot(self, pid: int) -> int:
        """The session a process is in by the kernel's map, 0 for none."""
        try:
            return int(self._bpf[b"tasks"][ctypes.c_uint(pid)].session)
        except KeyError:
            return 0

    def watch_socket(self, slot: int, cookie: int) -> None:
        """Put a socket that existed before adoption in scope of the cut."""
        self._bpf[b"sockets"][ctypes.c_ulonglong(cookie)] = ctypes.c_uint(slot)

    def quarantine(self, slot: int, *, on: bool) -> None:
        """Cut (or give back) the session's network. One map write; the next packet obeys."""
        flags = _LIVE | (_QUARANTINED if on else 0)
        self._flags[ctypes.c_int(slot)] = ctypes.c_uint(flags)

    def forget_touches(self) -> None:
        """Send every open anew: after a resume or a new rule set, a repeat is news again."""
        self._bpf[b"touched"].clear()

    # What the programs say ----------------------------------------------------------------------

    def egress_bytes(self, slot: int) -> tuple[int, int]:
        """Payload bytes that left the session, and that the cut held back."""
        row = self._bpf[b"egress"][ctypes.c_int(slot)]
        return int(row.sent_bytes), int(row.cut_bytes)

    def lost(self) -> dict[str, int]:
        """Hook -> events that could not be sent since the programs were loaded."""
        table = self._bpf[b"lost"]
        return {name: int(table[ctypes.c_int(n)].value) for n, name in enumerate(LOST_HOOKS)}

    def programs(self) -> dict[str, bool]:
        """Every program that should be attached, and whether the kernel says that it is."""
        expected = (*RAW_TRACEPOINTS, *CGROUP_HOOKS)
        return {
            name: name in self._links and link_is_attached(self._links[name]) for name in expected
        }

    def close(self) -> None:
        """Detach everything. Closing a link's descriptor is what detaches it."""
        for fd in self._links.values():
            os.close(fd)
        self._links.clear()
        for fd, ring in self._rings:
            self._epoll.unregister(fd)
            self._lib.bpf_free_ringbuf(ring)
        self._rings.clear()
        if not self._epoll.closed:
            self._epoll.close()
        self._bpf.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _attached(fd: int, program: str, tracepoint: str) -> int:
    if fd < 0:
        raise CaptureError(
            f"cannot attach {program} to {tracepoint}: {os.strerror(-fd)}",
            mend="run `estop doctor`",
        )
    return fd


def _import_bcc(settings: KernelSettings) -> tuple[Any, Any, Callable[..., Any]]:
    # bcc reads the variable while it is imported and while it compiles.
    os.environ["BCC_KERNEL_SOURCE"] = str(header_tree(settings.header_cache))
    try:
        import bcc  # noqa: PLC0415 - 1 s and 157 MB that `estop --help` does not need
        from bcc.libbcc import _RINGBUF_CB_TYPE, lib  # noqa: PLC0415
    except ImportError as error:
        raise CaptureError(
            "bcc's Python package is not importable", mend="run `make setup`"
        ) from error
    return bcc, lib, _RINGBUF_CB_TYPE


def load(settings: KernelSettings) -> Kernel:
    """Compile and attach everything, or raise CaptureError with nothing left behind."""
    kernel = Kernel(settings)
    kernel.attach()
    return kernel
