# SPDX-License-Identifier: Apache-2.0
"""The attached BPF programs: told about sessions, and asked; who loads and pins them is `pins.py`'s.

load()       take over what an earlier monitor left attached, or have it loaded
records      what they saw: `records.py`
watch()      a session: from then on they follow it
close()      detach everything, or leave it attached for the next monitor
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import structlog

from monitor.capture import bpf, wire
from monitor.capture.attached import Attached
from monitor.capture.handover import hand_over, unread
from monitor.capture.pins import Generation, Pins
from monitor.capture.programs import LSM_PREFIX, KernelSettings
from monitor.capture.records import RINGS, Records
from monitor.capture.touches import Touches
from monitor.errors import CaptureError

__all__ = ["LOST_HOOKS", "OPERATIONS", "Kernel", "KernelSettings", "load"]

LOST_HOOKS = (
    "fork", "exec", "exit", "open", "name", "connect", "send", "unix", "payload", "cgroup",
    "privileged", "signal", "tasks", "budget",
)  # fmt: skip

_log = structlog.get_logger()

OPERATIONS = {
    "monitor_limit": "limit",
    "process_vm_readv": "vm_read",
    "process_vm_writev": "vm_write",
}
"""What rules call an operation -> what it is called here. The others have one name."""

_CLOCK_MONOTONIC_COARSE = 6  # <linux/time.h>; its resolution is one tick of the kernel's timer
_TICK_NS = round(time.clock_getres(_CLOCK_MONOTONIC_COARSE) * 1e9)
_ONLY_ROW = (0,)


class Kernel:
    """Attached programs. Any thread may use it; the records belong to one."""

    def __init__(
        self, settings: KernelSettings, pins: Pins, generation: Generation, *, taken_over: bool
    ) -> None:
        self._settings = settings
        self._pins = pins
        self._generation = generation
        self.tier = generation.tier
        """What this kernel lets us hook: `tracepoint` or `lsm`."""
        hooks = [n for n in generation.missing if n.startswith(LSM_PREFIX)]
        self.missing = [name.removeprefix(LSM_PREFIX) for name in hooks]
        """LSM hooks that this kernel lacks: what would be refused there is not."""
        self.taken_over = taken_over
        """True if sessions may be in the maps already: see `sessions`."""
        self._lock = threading.Lock()
        self._maps = {name: self._open(name) for name in wire.MAPS}
        self._attached = Attached(generation)
        rings = {name: generation.map(name) for name in RINGS}
        self.records = Records(rings, self._maps["beat"], self._maps["crowded"], settings.batch)
        self._levels: dict[int, int] = {}
        self._old_levels = 0
        self._api_port = 0
        self._watches_below = False
        self._taint_connects = False
        self._held_operations = 0
        self._refused_operations = settings.refused_operations
        self._tasks, self._cgroups = self._maps["tasks"], self._maps["cgroups"]
        self._flags = self._maps["session_flags"]
        self._sockets = (self._maps["sockets"], self._maps["inherited_sockets"])
        self._beat, self._touches = self._maps["beat"], Touches(self._maps["touched"])
        self._displaced = self._maps["displaced"]
        self._held, self._questions = self._maps["held"], self._maps["questions"]
        if row := self._maps["settings"].get(*_ONLY_ROW):
            was = dict(zip((name for name, _ in wire.SETTINGS.members), row, strict=True))
            # Of sessions that are in the maps and not yet restored, and what they are judged by until
            # the rules are read.
            self._old_levels = was["session_levels"]
            self._watches_below = bool(was["watches_below"])
            self._taint_connects = bool(was["taint_connects"])
            self._held_operations = was["held_operations"]
        if self.sessions():
            self._attached.wake()
        self._write_settings()

    def _open(self, name: str) -> bpf.Map | bpf.Cells:
        key, value = wire.MAPS[name]
        fd = self._generation.map(name)
        info = bpf.MapInfo.of(fd)
        if (info.key_size, info.value_size) != (key.size, value.size):
            os.close(fd)
            raise CaptureError(
                f"map {name} has rows of {info.key_size} and {info.value_size} bytes where "
                f"{key.size} and {value.size} were expected",
                mend="run `estop unload`",
            )
        if name in wire.CELLS:
            return bpf.Cells(fd, value.packed)
        return bpf.Map(fd, key.packed, value.packed)

    def map(self, name: str) -> bpf.Map | bpf.Cells:
        """A map of `wire.MAPS`, by its name in bpf/."""
        return self._maps[name]

    # What the programs are told -----------------------------------------------------------------

    def _write_settings(self, monitor_pid: int | None = None) -> None:
        levels = self._old_levels
        for level in self._levels.values():
            levels |= 1 << level
        self._maps["settings"].set(
            _ONLY_ROW,
            (
                self._settings.monitor_pid if monitor_pid is None else monitor_pid,
                levels,
                self._api_port,
                self._watches_below,
                self._settings.read_again_ms * 1_000_000,
                self._settings.write_again_ms * 1_000_000,
                self._settings.deadman_ms * 1_000_000,
                self._held_operations,
                self._settings.opens_per_s,
                sum(1 << operation for operation in self._refused_operations),
                sum(1 << family for family in self._settings.refused_families),
                self._taint_connects,
                _TICK_NS,
            ),
        )

    def refuse_port(self, port: int) -> None:
        """Refuse every session a connection to this port on loopback: it is the monitor's own."""
        with self._lock:
            self._api_port = port
            self._write_settings()

    def judge_by(
        self, *, below: bool, operations: Iterable[str], taint_connects: bool = False
    ) -> None:
        """What the watches need beside their maps: are directories among them, which operations.

        With `taint_connects`, whatever a tainted session contacts is held.
        """
        known = {operation.name.lower(): 1 << operation for operation in wire.Operation}
        known |= {name: known[own] for name, own in OPERATIONS.items()}
        with self._lock:
            self._watches_below = below
            self._taint_connects = taint_connects
            self._held_operations = sum(known.get(name, 0) for name in set(operations))
            self._write_settings()

    def refuse_operations(self, operations: tuple[int, ...]) -> None:
        """Refuse these to every session, where LSM programs run."""
        with self._lock:
            self._refused_operations = operations
            self._write_settings()

    def beat_age_s(self) -> float:
        """How long ago the kernel heard of us; it holds every session once that is too long."""
        (last_ns,) = self._beat.get(*_ONLY_ROW) or (0,)
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return max(0, now_ns - last_ns) / 1e9 if last_ns else 0.0

    def sessions(self) -> dict[int, int]:
        """Slot -> cgroup id of every session that the programs follow."""
        return {slot: cgroup_id for (cgroup_id,), (slot,) in self._cgroups.items()}

    def watch(self, slot: int, cgroup_id: int, level: int, *, observed: bool = False) -> None:
        """Put a cgroup and all below it in scope. `level` counts from the root, which is refused.

        An observed session is never held or refused anything.

        A cgroup that is in scope in this slot already, from before a takeover, keeps its cut.
        CaptureError if a program that rested cannot be attached again.
        """
        if slot < 1 or cgroup_id < 1 or level < 1:
            raise CaptureError(f"slot {slot}, cgroup {cgroup_id}, level {level}: would match all")
        if level > wire.MAX_LEVEL:
            raise CaptureError(
                f"a cgroup {level} levels below the root cannot be followed",
                mend=f"use one at most {wire.MAX_LEVEL} levels deep",
            )
        self._attached.wake()
        with self._lock:
            if self._cgroups.get(cgroup_id) != (slot,):
                self._maps["egress"].set((slot,), (0, 0))
                self._maps["still_since"].set((slot,), (0,))
                self._maps["candidates"].set((slot,), (0,))
                self._maps["answers"].set((slot,), (0,))
                self._maps["answered_ns"].set((slot,), (0,))
                self._maps["unsent"].set((slot,), (0,))
                self._maps["given_up"].set((slot,), (0,))
                self._maps["budgets"].set((slot,), (0, 0, 0))
                self._flags.set((slot,), (wire.LIVE | (wire.OBSERVED if observed else 0),))
                self._cgroups.set((cgroup_id,), (slot,))
            self._levels[slot] = level
            self._write_settings()

    def follow(self, slot: int, cgroup_id: int) -> None:
        """Another cgroup for a session that is followed: what it is cut by stays."""
        with self._lock:
            self._cgroups.set((cgroup_id,), (slot,))
            for (known,), (whose,) in list(self._cgroups.items()):
                if whose == slot and known != cgroup_id:
                    self._cgroups.delete(known)

    def forget(self, slot: int) -> list[int]:
        """Take a session out of scope, and every task and socket left of it; who of it was stopped."""
        with self._lock:
            self._levels.pop(slot, None)
            gone: list[tuple[int, ...]] = []
            for table in (self._cgroups, self._tasks, *self._sockets, self._questions, self._held):
                gone = [key for key, value in table.items() if value[0] == slot]
                for key in gone:
                    table.delete(*key)
            self._write_settings()
            self._flags.set((slot,), (0,))
        return [pid for (pid,) in gone]  # of the last table

    def rest(self) -> None:
        """Detach what only sessions need, once there has been none for a while: see `Attached`."""
        self._attached.rest(self.sessions)

    def watch_task(self, slot: int, pid: int) -> None:
        """Put a process in scope; what it forks from now on follows in the kernel."""
        if self.task_slot(pid) != slot:  # else the kernel knows more of it than we do
            self._tasks.set((pid,), (slot, 0, 0))

    def forget_task(self, pid: int) -> None:
        """Take one process out of scope; what it forked stays."""
        self._tasks.delete(pid)

    def task_slot(self, pid: int) -> int:
        """The session a process is in by the kernel's map, 0 for none."""
        row = self._tasks.get(pid)
        return row[0] if row else 0

    def followed(self, slot: int) -> list[int]:
        """Processes of the session, whatever cgroup they are in."""
        return [pid for (pid,), row in self._tasks.items() if row[0] == slot]

    def watch_socket(self, slot: int, cookie: int) -> None:
        """Put a socket that existed before adoption in scope of the cut."""
        self._maps["inherited_sockets"].set((cookie,), (slot,))

    def quarantine(self, slot: int, *, on: bool) -> None:
        """Cut (or give back) the session's network. One map write; the next packet obeys."""
        self._flag(slot, wire.QUARANTINED, on=on)

    def grant(self, slot: int, *, on: bool) -> None:
        """Ask about what a rule forbids the session for certain, instead of refusing it at once."""
        self._flag(slot, wire.GRANTED, on=on)

    def taint(self, slot: int) -> None:
        """Something in the session has touched a secret; that is not taken back."""
        (flags,) = self._flags.get(slot) or (0,)
        if not flags & wire.TAINTED:
            self._flag(slot, wire.TAINTED, on=True)

    def _flag(self, slot: int, flag: int, *, on: bool) -> None:
        with self._lock:
            (flags,) = self._flags.get(slot) or (0,)
            flags = flags | flag if on else flags & ~flag
            self._flags.set((slot,), (flags | wire.LIVE,))

    def is_quarantined(self, slot: int) -> bool:
        """Was the session cut, by us or by an earlier monitor?"""
        return bool((self._flags.get(slot) or (0,))[0] & wire.QUARANTINED)

    def forget_touches(self) -> None:
        """Send every open anew: after a resume or a new rule set, a repeat is news again."""
        self._touches.forget()

    def mark_file(self, slot: int, inode: int) -> None:
        """Send every read of a file that gives a secret away."""
        self._touches.mark(slot, inode)

    # What the programs say ----------------------------------------------------------------------

    def egress_bytes(self, slot: int) -> tuple[int, int]:
        """Payload bytes that left the session, and that the cut held back."""
        return self._maps["egress"].get(slot) or (0, 0)

    def still_since(self, slot: int) -> int:
        """CLOCK_BOOTTIME ns since when everything in the session's cgroup stands still.

        0 if something runs, or if it stood still before it was a session's.
        """
        return int((self._maps["still_since"].get(slot) or (0,))[0])

    def lost(self) -> dict[str, int]:
        """Hook -> events that could not be sent since the programs were loaded."""
        return self._counts("lost")

    def lost_told(self) -> dict[str, int]:
        """As far as this monitor, or one before it, has told of them."""
        return self._counts("lost_told")

    def tell_lost(self, lost: Mapping[str, int]) -> None:
        """Everybody who must know has been told of so many."""
        for n, name in enumerate(LOST_HOOKS):
            self._maps["lost_told"].set((n,), (lost[name],))

    def _counts(self, name: str) -> dict[str, int]:
        table = self._maps[name]
        return {hook: (table.get(n) or (0,))[0] for n, hook in enumerate(LOST_HOOKS)}

    def over_budget(self, slot: int) -> int:
        """Opens of the session that were not looked at."""
        return int((self._maps["budgets"].get(slot) or (0, 0, 0))[2])

    def displaced(self) -> int:
        """How often init or the monitor was moved to another cgroup since the programs were loaded."""
        return int((self._displaced.get(0) or (0,))[0])

    def programs(self) -> dict[str, bool]:
        """Every program that should be attached now, and whether the kernel says that it is."""
        return self._attached.programs()

    def close(self, *, keep: bool = False) -> None:
        """Detach everything; with `keep`, leave all of it at work for the next monitor.

        What is kept knows no monitor any more: its pid and port may soon be somebody else's.
        """
        if self.records.closed:
            return
        if keep:
            self._api_port = 0
            self._write_settings(monitor_pid=0)
            if not self.sessions():
                self._generation.rest()
        self.records.close()
        for table in self._maps.values():
            table.close()
        self._attached.close()
        if not keep:
            self._pins.remove()
        self._pins.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def load(settings: KernelSettings) -> Kernel:
    """Take over what is pinned, or load it; CaptureError with nothing new left behind.

    Programs of another build are not taken over: the new ones are attached beside them, the
    sessions moved, and only then are the old ones removed.
    """
    pins = Pins(settings.runtime_dir)
    try:
        pins.remove_halves()
        found = pins.generations()
        try:
            return _serve(settings, pins, found)
        except BaseException:
            if not found:
                pins.remove()
            raise
    except BaseException:
        pins.close()
        raise


def _serve(settings: KernelSettings, pins: Pins, found: list[Generation]) -> Kernel:
    digest = settings.digest()
    current = next((g for g in reversed(found) if g.digest == digest and g.whole()), None)
    generation = current or pins.load(settings)
    old = [g for g in found if g is not current]
    if old:
        generation.wake()  # or what their sessions do meanwhile goes past it
    for one in old:
        hand_over(one, generation)
    kernel = Kernel(settings, pins, generation, taken_over=bool(found))
    for one in old:
        # Another layout cannot be read. That happens at an upgrade, and is said.
        if KernelSettings.speaks_as(one.digest, digest):
            kernel.records.left += unread(one)
        else:
            _log.warning("records.left", generation=one.path.name, why="of another layout")
        one.remove()
    return kernel
