# SPDX-License-Identifier: Apache-2.0
"""Looks at names and files which a session may serve itself, without waiting for it.

The server may stand still because we stopped its session, or be silent on purpose: all other sessions
would wait with us. So another thread asks, and who is not answered in time goes on without. To hand a
question over costs 0.1 ms, so that is done only while there is a server that was not there before the
first session. One that comes while somebody looks is aborted, if it does not answer either.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

from monitor.served import Served

T = TypeVar("T")

_LIMIT_S = 0.1
"""How long is waited for an answer: a tenth of what a held act may wait, a hundred times what one takes."""
_SHARE = 0.05
"""Of the time that goes by, what may be waited in vain for one asker."""
_MOST_ASLEEP = 512
"""Threads that wait for an answer which nobody waits for any more."""
_WAITS = ("request_wait_answer", "0")
"""fs/fuse/dev.c; `0` where the kernel does not say."""
_END_S = 1.0


class UnansweredError(Exception):
    """Nobody said in time what there is at a name: its server stands still, or does not want to.

    `waited`: it took that time to find out; False where that was known.
    """

    def __init__(self, *, waited: bool = False) -> None:
        super().__init__("no answer in time")
        self.waited = waited


class Look(Protocol):
    """Has something looked at, for somebody who can be told by `whose`; UnansweredError."""

    def __call__(self, look: Callable[[], T], whose: Hashable) -> T:
        """What it returns or raises."""
        ...


def at_once(look: Callable[[], T], whose: Hashable) -> T:  # noqa: ARG001 - it is a `Look`
    """Here and now, for as long as it takes: where no session is served by another."""
    return look()


class Looker:
    """Looks without waiting for sessions. Any thread may ask, and several at once."""

    def __init__(self, served: Served, *, limit_s: float = _LIMIT_S) -> None:
        self._served = served
        self._limit_s = limit_s
        self._idle: deque[_Thread] = deque()
        self._here: dict[int, float] = {}
        """Threads that look by themselves, by the kernel's number, and since when."""
        self._freed: dict[int, float] = {}
        """Those of them that a server kept, which was aborted, by the same."""
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="looks", daemon=True).start()
        self._asleep: dict[Hashable, tuple[_Thread, float]] = {}
        """Who was waited for in vain: who still waits, and when that may be done again."""

    def look(self, look: Callable[[], T], whose: Hashable) -> T:
        """What `look` returns or raises; UnansweredError if that is not known in time.

        What it was about to do after its answer is then not done. `whose`: for whom it is done, so that
        somebody who is not answered takes little of the time of the others.
        """
        if not self._served.by_sessions():
            return self._look_here(look)
        asleep, again_s = self._asleep.get(whose, (None, 0.0))
        if asleep is not None and (asleep.is_alive() or time.monotonic() < again_s):
            raise UnansweredError
        thread = self._thread()
        try:
            value = thread.ask(look, self._limit_s)
        except UnansweredError:
            self._asleep[whose] = thread, time.monotonic() + self._limit_s / _SHARE
            raise
        except BaseException:
            self._idle.append(thread)
            raise
        self._idle.append(thread)
        self._asleep.pop(whose, None)
        return value

    def _look_here(self, look: Callable[[], T]) -> T:
        thread = threading.get_native_id()
        if thread in self._here:  # one look that is part of another
            return look()
        since = self._here[thread] = time.monotonic()
        try:
            return look()
        finally:
            del self._here[thread]
            if self._freed.pop(thread, None) == since:
                raise UnansweredError(waited=True)

    def _watch(self) -> None:
        """Whoever looked when there was no server yet, and waits for one now, cannot be left behind."""
        while not self._closed.wait(self._limit_s):
            late = time.monotonic() - self._limit_s
            asleep = {t: s for t, s in list(self._here.items()) if s < late and _waits(t)}
            if asleep and self._served.by_sessions():
                self._freed |= asleep
                self._served.end_waits()

    def close(self) -> None:
        """Leave no thread that waits: it would keep this process, and all that it has locked."""
        self._closed.set()
        asleep = [thread for thread, _ in self._asleep.values() if thread.is_alive()]
        if asleep:
            self._served.end_waits()
        for thread in asleep:
            thread.join(_END_S)

    def _thread(self) -> _Thread:
        if len(self._asleep) >= _MOST_ASLEEP:
            now = time.monotonic()
            for whose, (thread, again_s) in list(self._asleep.items()):
                if now >= again_s and not thread.is_alive():
                    self._asleep.pop(whose, None)
            if len(self._asleep) >= _MOST_ASLEEP:
                raise UnansweredError
        try:
            return self._idle.pop()
        except IndexError:
            return _Thread()


def _waits(thread: int) -> bool:
    """For a server of files, by the function in which the kernel has it sleep (or who knows, without one)."""
    with suppress(OSError), open(f"/proc/self/task/{thread}/wchan") as file:  # noqa: PTH123
        return file.read() in _WAITS
    return False


class _Abandoned(BaseException):
    """Raised in a thread for which nobody waits any more, with the answer that it was waiting for."""


class _Thread(threading.Thread):
    """Looks, and can be left behind."""

    def __init__(self) -> None:
        super().__init__(name="look", daemon=True)  # or a silent server would keep us from ending
        self._asked: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._told: SimpleQueue[tuple[object, BaseException | None]] = SimpleQueue()
        self.start()

    def run(self) -> None:
        with suppress(_Abandoned):
            while (look := self._asked.get()) is not None:
                try:
                    self._told.put((look(), None))
                except Exception as error:  # noqa: BLE001 - it is the asker's
                    self._told.put((None, error))

    def ask(self, look: Callable[[], T], limit_s: float) -> T:
        self._asked.put(look)
        try:
            value, error = self._told.get(timeout=limit_s)
        except Empty:
            # It changes nothing any more: what it was told to look at may be another's by then.
            ident = ctypes.c_ulong(self.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_Abandoned))
            self._asked.put(None)  # it may have answered just now, and wait for the next question
            raise UnansweredError(waited=True) from None
        if error is not None:
            raise error
        return value  # type: ignore[return-value]
