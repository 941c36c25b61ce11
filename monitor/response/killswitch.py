# SPDX-License-Identifier: Apache-2.0
"""Stops sessions: the only code that freezes, thaws, kills, or cuts a network.

The stop is a sequence, in an order that was measured (bpf/README.md): a freeze alone lets an armed
io_uring chain send, and a kill alone can set one off. So: quarantine in the kernel (which cuts the
network) -> freeze -> confirm -> evidence (not here) -> kill -> confirm empty.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from monitor.errors import GuardError

_SPIN_NS = 50_000
_NAP_S = 0.00005
_NAP_UNTIL_NS = 20_000_000
"""`cgroup.events` tells pollers at most every 10 ms (kernfs limits it), while a freeze takes 0.1 to
4 ms: so it is read in a loop first. The loop naps, because a task that is to freeze may need this
very processor to get there; only a slow freeze is waited for with poll."""
_GONE = "the session ended by itself and its cgroup is gone"


class Target(Protocol):
    """What the kill-switch must know of a session."""

    id: str
    slot: int
    cgroup: Path


class StopReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stop or a release got. `steps_ns` holds the CLOCK_BOOTTIME of each step."""

    done: bool
    steps_ns: dict[str, int]
    detail: str = ""


class KillSwitch:
    """One for the monitor. All methods may be called from any thread."""

    def __init__(
        self,
        quarantine: Callable[[int, bool], None],
        *,
        cgroup_root: Path,
        deadline_ms: int = 1000,
        now_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    ) -> None:
        self._quarantine = quarantine
        self._root = cgroup_root
        self._deadline_ns = deadline_ms * 1_000_000
        self._now_ns = now_ns

    def _guard(self, target: Target) -> None:
        """Never the root, never init, never the monitor: checked again at every act."""
        # Text and not Path: this stands between the act and the cut, and is ten times as fast.
        cgroup, root = str(target.cgroup), str(self._root)
        if target.slot < 1 or not cgroup.startswith(root + "/") or "/.." in cgroup:
            raise GuardError(f"{cgroup} is not the cgroup of a session below {root}")
        below = cgroup.removeprefix(root) + "/"
        for pid, whose in ((1, "init"), (os.getpid(), "the monitor")):
            if f"{_cgroup_line(pid)}/".startswith(below):
                raise GuardError(f"{whose} is in {cgroup}: it will not be stopped")

    def freeze(self, target: Target) -> StopReport:
        """Cut the network, freeze, and wait until the kernel says that everything stands still."""
        self._guard(target)
        steps: dict[str, int] = {}
        self._quarantine(target.slot, True)  # noqa: FBT003
        steps["cut"] = self._now_ns()
        try:
            _write(target.cgroup, "cgroup.freeze", b"1")
        except OSError:
            if target.cgroup.exists():
                raise
            return StopReport(done=True, steps_ns=steps, detail=_GONE)
        done = self._wait(target.cgroup, "frozen 1")
        if done:
            steps["frozen"] = self._now_ns()
        return StopReport(
            done=done,
            steps_ns=steps,
            detail="" if done else self._unfinished("freeze", target.cgroup),
        )

    def resume(self, target: Target) -> StopReport:
        """Thaw, then give the network back."""
        self._guard(target)
        _write(target.cgroup, "cgroup.freeze", b"0")
        done = self._wait(target.cgroup, "frozen 0")
        self._quarantine(target.slot, False)  # noqa: FBT003
        return StopReport(
            done=done,
            steps_ns={"resumed": self._now_ns()},
            detail="" if done else self._unfinished("thaw", target.cgroup),
        )

    def kill(self, target: Target) -> StopReport:
        """Freeze as above, kill everything in the cgroup at once, and prove that it is empty."""
        report = self.freeze(target)
        steps = dict(report.steps_ns)
        # A freeze that is not confirmed (a task in D state) must not save the session from dying.
        try:
            _write(target.cgroup, "cgroup.kill", b"1")
        except OSError as error:
            if target.cgroup.exists():
                if not isinstance(error, FileNotFoundError):
                    raise
                self._kill_each(target.cgroup)  # before Linux 5.14
        steps["killed"] = self._now_ns()
        done = self._wait(target.cgroup, "populated 0")
        if done:
            steps["empty"] = self._now_ns()
        return StopReport(
            done=done,
            steps_ns=steps,
            detail="" if done else self._unfinished("kill", target.cgroup),
        )

    def _kill_each(self, cgroup: Path) -> None:
        # Frozen tasks cannot fork, so one pass over a frozen cgroup meets everybody.
        for directory in (cgroup, *(p for p in cgroup.rglob("*") if p.is_dir())):
            for pid in (directory / "cgroup.procs").read_text().split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def recall(self, target: Target, pid: int) -> bool:
        """Bring a process that left the session's cgroup back into it."""
        self._guard(target)
        try:
            _write(target.cgroup, "cgroup.procs", b"%d" % pid)
        except OSError:
            return False
        return True

    def is_empty(self, target: Target) -> bool:
        """True when the session's cgroup has no process left, or is gone."""
        return "populated 0" in _events(target.cgroup)

    def is_frozen(self, target: Target) -> bool:
        """What the kernel says now."""
        return "frozen 1" in _events(target.cgroup)

    def _wait(self, cgroup: Path, wanted: str) -> bool:
        """Wait for a line of cgroup.events, until the deadline. A removed cgroup is empty."""
        start = self._now_ns()
        try:
            file = os.open(cgroup / "cgroup.events", os.O_RDONLY)
        except FileNotFoundError:
            return wanted == "populated 0"
        try:
            poll = select.poll()
            poll.register(file, select.POLLPRI | select.POLLERR)
            while wanted.encode() not in os.pread(file, 128, 0):
                passed = self._now_ns() - start
                if passed > self._deadline_ns:
                    return False
                if passed > _NAP_UNTIL_NS:
                    poll.poll(10)
                elif passed > _SPIN_NS:
                    time.sleep(_NAP_S)
        except OSError:  # ENODEV: the cgroup was removed while we waited
            return wanted == "populated 0"
        else:
            return True
        finally:
            os.close(file)

    def _unfinished(self, verb: str, cgroup: Path) -> str:
        network = "the network is given back" if verb == "thaw" else "the network stays cut"
        waited = self._deadline_ns // 1_000_000
        says = " ".join(_events(cgroup).split())
        return f"{verb} not confirmed after {waited} ms (cgroup.events: {says}); {network}"


def _cgroup_line(pid: int) -> str:
    """The cgroup2 path of a process as /proc has it, from the root of the hierarchy."""
    file = os.open(f"/proc/{pid}/cgroup", os.O_RDONLY)
    try:
        text = os.read(file, 65536).decode("utf-8", "surrogateescape")
    finally:
        os.close(file)
    return next((line[3:] for line in text.splitlines() if line.startswith("0::")), "/")


def _write(cgroup: Path, name: str, value: bytes) -> None:
    file = os.open(f"{cgroup}/{name}", os.O_WRONLY)
    try:
        os.write(file, value)
    finally:
        os.close(file)


def _events(cgroup: Path) -> str:
    try:
        return (cgroup / "cgroup.events").read_text()
    except OSError:
        return "populated 0\nfrozen 0\n"
