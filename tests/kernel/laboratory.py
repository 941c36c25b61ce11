# SPDX-License-Identifier: Apache-2.0
"""Sessions to try things in: real cgroups below one directory, programs that do as they are told.

Only processes started here are ever put into a cgroup, and all of them end with the test.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

from states import is_stopped
from tiers import PATIENCE

from monitor import events
from monitor.capture import syscalls
from monitor.capture.decode import decode
from monitor.capture.kernel import Kernel
from monitor.sessions import cgroups
from monitor.subjects import State

PROGRAMS = Path(__file__).with_name("programs")
_FIRST_SLOT = 100
_GRACE_S = 5.0 * PATIENCE

AnyEvent = TypeVar("AnyEvent", bound=events.Event)


@cache
def numbers(header: str = "unistd_64.h") -> dict[str, int]:
    """Every system call by name: of the installed header, and those we know that it may not."""
    command = ["cc", "-E", "-dM", "-x", "c", "-"]
    source = f"#include <asm/{header}>\n"
    out = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in out.splitlines() if line.startswith("#define __NR_"))
    ours = "number" if header == "unistd_64.h" else "compat"
    known = {shape.name: getattr(shape, ours) for shape in syscalls.SHAPES}
    return known | {row[1].removeprefix("__NR_"): int(row[2]) for row in rows if row[2].isdigit()}


def until(condition: Callable[[], object], timeout_s: float = _GRACE_S) -> bool:
    """Wait for something that another process or the kernel does in its own time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


class Laboratory:
    """The loaded programs, a cgroup directory, compiled helpers; hands out sessions."""

    def __init__(self, kernel: Kernel, cgroup_root: Path, programs: Path) -> None:
        self.kernel = kernel
        self.cgroup_root = cgroup_root
        self.base = cgroups.make(cgroup_root, f"estop-test-{os.getpid()}-{programs.name}")
        self.strangers: list[events.Event] = []
        """Events of a slot that nobody holds: there must never be one."""
        self._programs = programs
        self._last_slot = _FIRST_SLOT
        self._used = {0}
        self._events: dict[int, list[events.Event]] = defaultdict(list)

    def program(self, name: str) -> str:
        """The path of a helper, compiled once. Static: its start-up makes no noise."""
        path = self._programs / name
        if not path.exists():
            source = PROGRAMS / f"{name}.c"
            command = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o", path, source]
            subprocess.run([*command, "-lpthread"], check=True)
        return str(path)

    @contextmanager
    def session(self, *, watched: bool = True) -> Iterator[Inside]:
        """A cgroup of its own, in scope unless told otherwise; everything in it dies at the end."""
        self._last_slot += 1
        inside = Inside(self, self._last_slot, self.empty_cgroup())
        if watched:
            inside.watch()
        try:
            yield inside
        finally:
            inside.end()

    def empty_cgroup(self) -> Path:
        """A cgroup that belongs to no session."""
        return cgroups.make(self.base, f"{time.monotonic_ns()}")

    def accept(self, slot: int) -> None:
        """Events of this slot are expected from now on."""
        self._used.add(slot)

    def collect(self, timeout_ms: int = 0) -> None:
        """Everything that lies in the rings, put with its session.

        A system call's record is complete before the call returns, so whoever got its result finds
        the event here without waiting.
        """
        while records := self.kernel.records.read(timeout_ms):
            timeout_ms = 0
            for record in records:
                event = decode(record)
                if event is None:
                    continue
                if event.slot not in self._used:
                    self.strangers.append(event)
                self._events[event.slot].append(event)
            self.kernel.records.commit()

    def taken(self, slot: int) -> list[events.Event]:
        """The session's events since the last time, oldest first."""
        self.collect()
        return sorted(self._events.pop(slot, []), key=lambda e: e.ktime_ns)

    def peek(self, slot: int, timeout_ms: int) -> list[events.Event]:
        """As above, after waiting for news, and they stay."""
        self.collect(timeout_ms)
        return self._events[slot]

    def evict(self, cgroup: Path) -> None:
        """End what runs in a cgroup that was handed over to others; they remove it."""
        assert cgroup.is_relative_to(self.base)
        if cgroup.exists():
            end_all(cgroup)
            assert until(lambda: "populated 0" in (cgroup / "cgroup.events").read_text())

    def close(self) -> None:
        """Nothing of ours lives on."""
        empty(self.base)


def empty(cgroup: Path) -> None:
    """Kill whatever is in a cgroup of ours, and remove it."""
    if not cgroup.exists():
        return
    assert os.getpid() not in cgroups.members(cgroup)
    end_all(cgroup)
    assert until(lambda: "populated 0" in (cgroup / "cgroup.events").read_text())
    assert until(lambda: cgroups.remove(cgroup))


def end_all(cgroup: Path) -> None:
    """Kill whatever is in a cgroup of ours."""
    (cgroup / "cgroup.kill").write_text("1")
    for pid in cgroups.members(cgroup):  # whose main thread has ended
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Inside:
    """A session: starts programs in it and tells what the kernel said of them."""

    def __init__(self, lab: Laboratory, slot: int, cgroup: Path) -> None:
        self.lab = lab
        self.slot = slot
        self.cgroup = cgroup
        self.cgroup_id = cgroup.stat().st_ino
        self.id = f"session-{slot}"
        self.state = State.RUNNING
        self._started: list[subprocess.Popen[bytes]] = []

    def watch(self, *, observed: bool = False) -> None:
        """Put the cgroup in scope."""
        self.lab.accept(self.slot)
        level = cgroups.level_of(self.cgroup, self.lab.cgroup_root)
        self.lab.kernel.watch(self.slot, self.cgroup.stat().st_ino, level, observed=observed)

    def start(self, program: str, *argv: str | bytes, **options: object) -> subprocess.Popen[bytes]:
        """Start a helper (by name) or a program (by path) in the cgroup."""
        path = program if program.startswith("/") else self.lab.program(program)
        command = [self.lab.program("enter"), str(self.cgroup), path, *argv]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(command, **{**pipes, **options})
        self._started.append(process)
        return process

    def run(self, program: str, *argv: str | bytes, **options: object) -> int:
        """Start, wait, and say how it ended."""
        return self.start(program, *argv, **options).wait(_GRACE_S)

    def ready(self, program: str, *argv: str, **options: object) -> subprocess.Popen[bytes]:
        """Start, and wait until it says that it is at it."""
        process = self.start(program, *argv, **options)
        assert self.said(process) == b"ready\n"
        return process

    def said(self, process: subprocess.Popen[bytes]) -> bytes:
        """Its next line, which it must not keep us waiting for."""
        assert select.select([process.stdout], [], [], _GRACE_S)[0], "it says nothing"
        return process.stdout.readline()

    def puppet(self) -> Puppet:
        """A process that makes the system calls it is told; its own start is forgotten."""
        puppet = Puppet(self.ready("puppet"))
        self.forget_events()
        return puppet

    def forget_events(self) -> None:
        """What happened so far does not count."""
        self.lab.taken(self.slot)

    def events(self, kind: type[AnyEvent] = events.Event) -> list[AnyEvent]:
        """What the kernel said since the last time that was asked."""
        return [e for e in self.lab.taken(self.slot) if isinstance(e, kind)]

    def wait(
        self, kind: type[AnyEvent], where: Callable[[AnyEvent], bool] = lambda _: True
    ) -> AnyEvent:
        """The first such event, which may still be on its way."""
        end = time.monotonic() + _GRACE_S
        while time.monotonic() < end:
            for event in self.lab.peek(self.slot, 20):
                if isinstance(event, kind) and where(event):
                    return event
        raise AssertionError(f"no {kind.__name__} came; {self.lab.taken(self.slot)}")

    def end(self) -> None:
        """Nobody stays, nothing is followed any more."""
        empty(self.cgroup)
        for process in self._started:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        self.lab.kernel.forget(self.slot)


class Puppet:
    """Makes system calls by name; failures are OSErrors."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid = process.pid
        self.image = os.readlink(f"/proc/{process.pid}/exe")

    def become(self, name: str, *arguments: int | bytes) -> None:
        """A call that does not return, or not soon: its `answer` is not waited for."""
        self._say("s", numbers()[name], *arguments)

    def become_compat(self, name: str, *arguments: int | bytes) -> None:
        """The same through the 32-bit entry."""
        self._say("c", numbers("unistd_32.h")[name], *arguments)

    def _say(self, *words: object) -> None:
        line = " ".join(f"x{w.hex()}" if isinstance(w, bytes) else str(w) for w in words)
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> int:
        """The result of a call."""
        result = int(self.process.stdout.readline())
        if -4096 < result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def __call__(self, name: str, *arguments: int | bytes) -> int:
        """One system call."""
        self._say("s", numbers()[name], *arguments)
        return self.answer()

    def compat(self, name: str, *arguments: int | bytes) -> int:
        """One system call through the 32-bit entry."""
        self.become_compat(name, *arguments)
        return self.answer()

    def place(self, content: bytes) -> int:
        """Where these bytes now lie in its memory."""
        self._say("a", content.hex())
        return self.answer()

    def place_texts(self, *texts: bytes) -> int:
        """An array of pointers to texts, as execve wants it."""
        pointers = [self.place(text) for text in texts]
        return self.place(b"".join(p.to_bytes(8, "little") for p in (*pointers, 0)))

    def stubborn(self) -> Puppet:
        """The same process, continued whenever it is stopped: what is refused to it can be seen."""
        return Stubborn(self.process)

    def memory(self, address: int, length: int) -> bytes:
        """What lies there."""
        self._say("r", address, length)
        return bytes.fromhex(self.process.stdout.readline().decode())


class Stubborn(Puppet):
    """Of a stopped session: an LSM program that refuses its call stops it too."""

    def answer(self) -> int:
        while not select.select([self.process.stdout], [], [], 0.01)[0]:
            if is_stopped(self.pid):
                os.kill(self.pid, signal.SIGCONT)
        return super().answer()
