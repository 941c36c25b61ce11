# SPDX-License-Identifier: Apache-2.0
"""A gate with its gatekeeper's process, and somebody who answers."""

from __future__ import annotations

import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from laboratory import until

from monitor.capture.gate import Gate
from monitor.capture.question import Question
from monitor.events import Access

ROOT = Path(__file__).parents[3]
BOTH = Access.READ | Access.WRITE


def inode_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


class Guard:
    """What a pipeline is to the gate."""

    def __init__(self, kernel: object, **options: object) -> None:
        self._bell = select.epoll()
        settings = {"fail_open": False, "hold_timeout_ms": 3000} | options
        self.gate = Gate(kernel, wake=lambda fd: self._bell.register(fd, 1), **settings)
        self.gate.start()
        self.questions: list[Question] = []
        self.decide: Callable[[Question], bool] = lambda _: True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._judge, daemon=True)

    def watch(self, *files: Path, directories: tuple[Path, ...] = ()) -> None:
        self.gate.set_marks(
            {inode_of(f): str(f) for f in files}, {inode_of(d): str(d) for d in directories}
        )
        self.done()

    def done(self) -> None:
        """Every order has been carried out."""
        assert until(self.gate.caught_up)

    def answering(self, decide: Callable[[Question], bool]) -> None:
        """Answer every question so from now on."""
        self.decide = decide
        self._thread.start()

    def refusing(self) -> None:
        self.answering(lambda _: False)

    def next(self, timeout_s: float = 3.0) -> Question:
        """The one question that comes, unanswered."""
        assert self.asked(timeout_s), "nobody asked"
        [question] = self.gate.take()
        return question

    def asked(self, timeout_s: float = 0) -> bool:
        return bool(self._bell.poll(timeout_s))

    def _judge(self) -> None:
        while not self._stop.is_set():
            self._bell.poll(0.05)
            for question in self.gate.take():
                self.questions.append(question)
                self.gate.answer(question, allow=self.decide(question))

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident:
            self._thread.join()
        self.gate.close()
        self._bell.close()
        assert not self.gate.tally.failed


@contextmanager
def guarding(kernel: object, **options: object) -> Iterator[Guard]:
    guard = Guard(kernel, **options)
    try:
        yield guard
    finally:
        guard.close()


MONITOR = """
import os, sys, time
sys.path[:0] = {paths!r}
from monitor.capture.gate import Gate
class Maps:
    def map(self, name):
        class Table: fd = {fds!r}[name]
        return Table
gate = Gate(Maps(), fail_open=False, hold_timeout_ms=60_000)
gate.start()
found = os.stat({file!r})
gate.set_marks({{(found.st_dev, found.st_ino): {file!r}}}, {{}})
while not gate.caught_up():
    time.sleep(0.01)
print(gate.pid, flush=True)
while not gate.take():
    time.sleep(0.01)
print('asked', flush=True)
time.sleep(60)
"""


def a_monitor(kernel: object, file: Path) -> subprocess.Popen[bytes]:
    """A process of its own with a gate for one file: it says the gatekeeper's pid, and `asked` in time."""
    fds = {name: kernel.map(name).fd for name in ("tasks", "session_flags")}
    script = MONITOR.format(paths=[str(ROOT)], file=str(file), fds=fds)
    command = [sys.executable, "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=tuple(fds.values()))
