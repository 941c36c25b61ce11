# SPDX-License-Identifier: Apache-2.0
"""The monitor's end of the gate: the gatekeeper's process, its questions, our answers; no policy.

Nothing here waits for the gatekeeper once it runs: an order that finds no room means that it hangs,
and then it has to be ended, because everybody waits who opens a watched file.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from monitor.capture.blocked import access_of
from monitor.capture.denials import Denials
from monitor.capture.gatewords import (
    MARKS,
    PACKET_BYTES,
    Answer,
    Asked,
    MarkNow,
    Marks,
    News,
    Order,
    Page,
    Ready,
    Refuse,
    Tally,
    Unmarked,
    Wanted,
)
from monitor.capture.peeker import Peeker
from monitor.capture.question import NOBODY_WAITS, Question, question_of
from monitor.errors import CaptureError
from monitor.events import Access

Inode = tuple[int, int]
"""(device, inode) as `os.stat` has them."""

_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
_BUFFER_BYTES = 4 << 20
_START_S = 30.0
_END_S = 2.0
_LOOK_S = 0.001
_HANGS_NS = 3_000_000_000
"""A gatekeeper that gave no sign of life for so long has to be ended; it gives two a second."""
_OURS = b"/proc/self/"


class Descriptor(Protocol):
    """A map of the kernel side."""

    fd: int


class Maps(Protocol):
    """Where they come from: `capture.kernel.Kernel`."""

    def map(self, name: str) -> Descriptor:
        """A map by its name in bpf/maps.h."""
        ...


class Gate:
    """One for the monitor. `take` belongs to one thread, everything else to anybody.

    A gate that was never started, or whose gatekeeper is gone, has no questions and takes no orders.
    """

    def __init__(
        self,
        maps: Maps,
        *,
        fail_open: bool,
        hold_timeout_ms: int,
        most_waiting: int = 256,
        wake: Callable[[int], None] = lambda _: None,
        denials: Path | None = None,
    ) -> None:
        """`wake` is given the descriptor that becomes readable when there is something to take.

        `denials` is the file of `denials.Denials`; without one, what was refused ends with us.
        """
        self._maps = maps
        self._fail_open = fail_open
        self._hold_timeout_ms = hold_timeout_ms
        self._options = {
            "fail_open": fail_open,
            "hold_timeout_ms": hold_timeout_ms,
            "most_waiting": most_waiting,
        }
        self._wake = wake
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._page: Page | None = None
        self._denials_fd = _memory_or(denials)
        self._denials = Denials(self._denials_fd)
        self._peeker = Peeker()
        self._left: list[Question] = []
        self._untold: list[Asked] = []
        """What an earlier monitor refused, until it is known to be told."""
        self._sent = 0
        self._full = False
        self._refused: set[int] = set()
        self._news = msgspec.msgpack.Decoder(News)
        self.unmarked: dict[str, str] = {}
        """Path -> why it is not asked about."""
        self.off = ""
        """Why nobody is asked, although somebody should be."""

    # Life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a gatekeeper, in place of one that is gone or hangs; it has no marks yet.

        CaptureError where this kernel gives no permission events.
        """
        self.stop()
        page_fd = os.memfd_create("gate")
        os.ftruncate(page_fd, os.sysconf("SC_PAGESIZE"))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
            self._process = self._spawn(theirs.fileno(), page_fd)
        self._peeker.start(_START_S)
        page = Page(page_fd)
        os.close(page_fd)
        ready = self._first_word(ours)
        if ready.error:
            self.off = ready.error
            self._end(ours)
            raise CaptureError(ready.error, mend=ready.mend)
        ours.setblocking(False)  # noqa: FBT003 - the name of the method says it
        with self._lock:
            self._channel, self._page, self._sent, self._full = ours, page, 0, False
            self.off = ""
            refused = list(self._refused)
        for slot in refused:
            self._order(Refuse(slot, on=True))
        self._wake(ours.fileno())

    def _first_word(self, channel: socket.socket) -> Ready:
        channel.settimeout(_START_S)
        try:
            ready = self._news.decode(channel.recv(PACKET_BYTES))
        except (OSError, msgspec.DecodeError):  # nothing at all where it ended
            ready = None
        if isinstance(ready, Ready):
            return ready
        return Ready("the gatekeeper does not start", "see the monitor's log")

    def _spawn(self, channel: int, page: int) -> subprocess.Popen[bytes]:
        tables = {name: self._maps.map(name).fd for name in ("tasks", "session_flags")}
        told = {
            **tables,
            "channel": channel,
            "page": page,
            "denials": self._denials_fd,
            "monitor_pid": os.getpid(),
            "options": self._options,
        }
        # A session of its own: what a terminal sends the monitor is not for the gatekeeper.
        # -P: root must not import from its working directory.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "monitor.capture.gatekeeper", json.dumps(told)],
            pass_fds=(channel, page, self._denials_fd, *tables.values()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The gatekeeper's process, 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    def trouble(self) -> str:
        """Why a gatekeeper that was started has to be replaced; empty if it is well."""
        if self._page is None:
            return ""
        if self._process is None:
            return self.off
        if self._process.poll() is not None:
            return f"it ended with {self._process.returncode}"
        alive_ns, _ = self._page.read()
        if self._full or time.monotonic_ns() - alive_ns > _HANGS_NS:
            return "it does not answer"
        return "it hung up" if self._channel is None else ""

    @property
    def tally(self) -> Tally:
        """What became of the questions since the gatekeeper started."""
        return self._page.read()[1] if self._page is not None else Tally()

    def caught_up(self) -> bool:
        """Has every order been carried out?"""
        return self._channel is not None and self.tally.orders == self._sent

    def catch_up(self, timeout_s: float) -> bool:
        """Wait until every order has been carried out; False if there is nobody, or not in time."""
        end = time.monotonic() + timeout_s
        while self._channel is not None and time.monotonic() < end:
            if self.caught_up():
                return True
            time.sleep(_LOOK_S)
        return False

    def stop(self) -> None:
        """End the gatekeeper: who waits is answered by the fail mode, and the marks are gone."""
        with self._lock:
            channel, self._channel = self._channel, None
        if self._process is not None:
            self._end(channel)
        self._peeker.stop()

    def close(self) -> None:
        """`stop`, for good."""
        self.stop()
        if self._denials_fd >= 0:
            self._denials.close()
            os.close(self._denials_fd)
            self._denials_fd = -1

    def _end(self, channel: socket.socket | None) -> None:
        if channel is not None:
            channel.close()
        process, self._process = self._process, None
        if process is None:
            return
        if self._full or channel is None:
            process.kill()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            # In a sleep that no signal ends it would keep us for as long; its end is the kernel's to see to.
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)

    # Questions ----------------------------------------------------------------------------------

    def take(self) -> list[Question]:
        """Questions that nobody took yet, oldest first; does not wait.

        Without those that were let go meanwhile because `fail_mode` is open: their records follow.
        """
        questions, self._left = self._left, []
        channel = self._channel
        while channel is not None:
            try:
                packet = channel.recv(PACKET_BYTES)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet:
                self._hung_up(channel)
                break
            news = self._news.decode(packet)
            if isinstance(news, Asked) and not self._let_go(news):
                questions.append(self._understood(news))
            elif isinstance(news, Unmarked):
                self.unmarked[os.fsdecode(news.path)] = news.reason
        return questions

    def take_over(self, *, slots: Collection[int]) -> None:
        """What an earlier monitor refused and may not have told: `take` gives it, answered already.

        Only of these slots; a monitor that did not take the others over knows nothing of them.
        """
        left = self._denials.left()
        self._untold = [asked for asked, _ in left]
        self._left += [
            question_of(asked, Access(access), number=NOBODY_WAITS)
            for asked, access in left
            if asked.slot in slots
        ]

    def commit(self) -> None:
        """What was taken so far is judged, and its alerts are on disk: see `take_over`."""
        if self._untold and not self._left:
            self._denials.told(self._untold)
            self._untold = []

    def _understood(self, asked: Asked) -> Question:
        # Here and not in the gatekeeper: the asker may not be asleep yet, and on a busy machine
        # that can take milliseconds.
        access = access_of(asked.tid, self._peeker.number_at)
        self._denials.understood(asked.number, access)
        return question_of(asked, access, number=asked.number)

    def _let_go(self, asked: Asked) -> bool:
        waits_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - asked.ktime_ns
        return self._fail_open and waits_ns >= self._hold_timeout_ms * 1_000_000

    def _hung_up(self, channel: socket.socket) -> None:
        with self._lock:
            if self._channel is channel:
                self._channel = None
                self.off = "the gatekeeper is gone"
                channel.close()

    def answer(self, question: Question, *, allow: bool) -> None:
        """Our word. If it comes too late, the fail mode has spoken."""
        if question.number != NOBODY_WAITS:
            self._order(Answer(question.number, allow))

    def refuse(self, slot: int, *, on: bool) -> None:
        """Refuse whatever the session asks and has asked, without a word of the pipeline, or no more.

        A thread that waits for our word cannot freeze: so this stands between the order to freeze
        and the wait for `frozen 1`.
        """
        with self._lock:
            (self._refused.add if on else self._refused.discard)(slot)
        self._order(Refuse(slot, on))

    # Marks --------------------------------------------------------------------------------------

    def set_marks(self, files: Mapping[Inode, str], directories: Mapping[Inode, str]) -> None:
        """Ask about exactly these; each with a path by which we reach it."""
        self.unmarked.clear()
        wanted = [Wanted(*inode, _from_outside(path)) for inode, path in files.items()]
        wanted += [
            Wanted(*inode, _from_outside(path), directory=True)
            for inode, path in directories.items()
        ]
        for start in range(0, max(1, len(wanted)), MARKS):
            piece = wanted[start : start + MARKS]
            self._order(Marks(piece, last=start + MARKS >= len(wanted)))

    def mark(self, path: str) -> None:
        """Ask about the file that lies there now, for a name that just came."""
        self._order(MarkNow(_from_outside(path)))

    def _order(self, order: Order) -> None:
        packet = msgspec.msgpack.encode(order)
        with self._lock:
            if self._channel is None:
                return
            try:
                self._channel.send(packet)
                self._sent += 1
            except BlockingIOError:
                self._full = True
            except OSError:
                return  # it is gone: `take` or `trouble` will say so


def _memory_or(file: Path | None) -> int:
    if file is None:
        return os.memfd_create("denials")
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _from_outside(path: str) -> bytes:
    """Roots of sessions are descriptors of ours (`sessions.places.Roots`)."""
    found = os.fsencode(path)
    if found.startswith(_OURS):
        return b"/proc/%d/" % os.getpid() + found.removeprefix(_OURS)
    return found
