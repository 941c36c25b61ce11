# SPDX-License-Identifier: Apache-2.0
"""`python -m monitor.capture.gatekeeper`: the process that hears every question of the gate.

It lets strangers pass, hands on what sessions ask, and answers by itself what nobody answers in
time. While it does not answer, everybody waits who opens a watched file. So it is a process of its
own: a thread of the monitor would wait for ever for another one that opens such a file while it
keeps the interpreter's lock (`pwd.getpwall` does, and so does a vfork up to its exec). It is the only
one that has the group's descriptor: its death, however it comes, removes the marks and lets
everybody pass who waits.

It opens nothing outside /proc, logs nothing, starts nothing and never waits for the monitor.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import msgspec

from monitor.capture import bpf, fanotify, wire
from monitor.capture.blocked import access_of, leader_of, untold
from monitor.capture.denials import Denials
from monitor.capture.fanotify import Record
from monitor.capture.gatewords import (
    PACKET_BYTES,
    Answer,
    MarkNow,
    Marks,
    News,
    Order,
    Page,
    Ready,
    Refuse,
    Tally,
    Unmarked,
)
from monitor.capture.opengate import Inode, OpenGate
from monitor.errors import CaptureError
from monitor.resident import be_killed_last, stay_in_memory

_BEAT_MS = 500
_ORDERS = 16
"""Orders that are carried out before those are looked at who have come meanwhile."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_TIMERSLACK = 29
_NICE = -20
"""As the monitor: everybody who opens a watched file waits for this process."""


class Waiting(NamedTuple):
    """A question that is handed on and not answered. `fd` stands for it in the kernel."""

    fd: int
    tid: int
    slot: int
    ktime_ns: int


class Gatekeeper:
    """Reads the gate and the monitor's orders until the monitor is gone.

    `slot_of` tells the session of a process, 0 for none; it opens nothing but files in /proc.
    """

    def __init__(
        self,
        gate: OpenGate,
        channel: socket.socket,
        page: Page,
        denials: Denials,
        slot_of: Callable[[int], int],
        *,
        fail_open: bool,
        hold_timeout_ms: int,
        most_waiting: int,
    ) -> None:
        self._gate = gate
        self._channel = channel
        self._page = page
        self._denials = denials
        self._slot_of = slot_of
        self._fail_open = fail_open
        self._timeout_ns = hold_timeout_ms * 1_000_000
        self._most_waiting = most_waiting
        self._tally = Tally()
        self._last = _now_ns()
        """Number of the newest question that was handed on.

        Those of a gatekeeper before this one are all below it: an answer that comes too late for one of them
        must not be taken for one to somebody else.
        """
        self._waiting: dict[int, Waiting] = {}
        """By number, oldest first."""
        self._refused: set[int] = set()
        self._wanted: set[Inode] = set()
        """Of the marks that are being told, until the last message of them."""
        self._orders = msgspec.msgpack.Decoder(Order)
        self._news = msgspec.msgpack.Encoder()

    def run(self) -> None:
        """Until the monitor's end of the channel closes."""
        poll = select.poll()
        poll.register(self._gate.fd, select.POLLIN)
        poll.register(self._channel, select.POLLIN)
        self._page.write(time.monotonic_ns(), self._tally)
        try:
            self._tell(Ready())
            while True:
                self._tally.marks = len(self._gate)
                self._page.write(time.monotonic_ns(), self._tally)
                ready = {fd for fd, _ in poll.poll(self._wait_ms())}
                self._give_up_on_the_late()
                if self._gate.fd in ready:
                    self._hear()
                if self._channel.fileno() in ready:
                    self._obey()
        except (EOFError, ConnectionError):
            for number in list(self._waiting):
                self._answer(number, allow=self._fail_open)

    def _wait_ms(self) -> float:
        for question in self._waiting.values():  # the oldest: they are kept in order
            left_ns = question.ktime_ns + self._timeout_ns - _now_ns()
            return min(_BEAT_MS, max(0.0, left_ns / 1e6 + 0.5))
        return _BEAT_MS

    # Orders -------------------------------------------------------------------------------------

    def _obey(self) -> None:
        for _ in range(_ORDERS):
            try:
                packet = self._channel.recv(PACKET_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not packet:
                raise EOFError
            self._carry_out(self._orders.decode(packet))
            self._tally.orders += 1

    def _carry_out(self, order: Order) -> None:
        match order:
            case Answer(number, allow):
                self._answer(number, allow=allow)
            case Refuse(slot, on):
                self._refuse(slot, on=on)
            case MarkNow(path):
                reason = self._gate.mark(os.fsdecode(path))
                if reason:
                    self._tell(Unmarked(path, reason))
            case Marks():
                self._mark(order)

    def _mark(self, order: Marks) -> None:
        pieces: tuple[dict[Inode, str], dict[Inode, str]] = ({}, {})
        for inode in order.wanted:
            pieces[inode.directory][inode.device, inode.inode] = os.fsdecode(inode.path)
        for path, reason in self._gate.add_marks(*pieces).items():
            self._tell(Unmarked(os.fsencode(path), reason))
        self._wanted |= pieces[False].keys() | pieces[True].keys()
        if order.last:
            self._gate.keep_marks(self._wanted)
            self._wanted = set()

    def _refuse(self, slot: int, *, on: bool) -> None:
        """A thread that waits for a word cannot freeze: so whoever freezes has it refused.

        Between the order to freeze and the wait for `frozen 1`: refused before that order, it would
        run on for a moment.
        """
        (self._refused.add if on else self._refused.discard)(slot)
        if on:
            for number in [n for n, q in self._waiting.items() if q.slot == slot]:
                self._tally.refused += 1
                self._answer(number, allow=False)

    # Questions ----------------------------------------------------------------------------------

    def _answer(self, number: int, *, allow: bool) -> None:
        """The monitor's word, or the fail mode's.

        Memory of the asker is not read here, which could make this process wait for ever: an openat2 that
        the monitor has not understood is refused like anything else, and told as an open to read.
        """
        question = self._waiting.pop(number, None)
        if question is None:  # the word comes too late
            return
        if not allow:
            # Said before it is done: a monitor that is killed now tells of it in its next life.
            if not self._denials.access(number):
                self._denials.understood(number, access_of(question.tid, untold))
            self._denials.refused(number)
        self._gate.answer(question.fd, allow=allow)

    def _give_up_on_the_late(self) -> None:
        oldest_ns = _now_ns() - self._timeout_ns
        for number, question in list(self._waiting.items()):
            if question.ktime_ns > oldest_ns:
                return
            self._tally.late += 1
            self._answer(number, allow=self._fail_open)

    def _hear(self) -> None:
        try:
            records = fanotify.read(self._gate.fd)
        except OSError:
            self._tally.unread += 1
            return
        ours = []
        for record in records:  # first those who have only come by
            with self._answered_anyhow(record):
                if record_slot := self._unless_stranger(record):
                    ours.append((record, *record_slot))
        if ours:
            # An order that was given before they asked is older than their question: who was resumed just
            # now is refused no more. The end of the channel is heard of again in the round.
            with suppress(EOFError, ConnectionError):
                self._obey()
        for record, pid, slot in ours:
            with self._answered_anyhow(record):
                self._hand_on(record, pid, slot)

    @contextmanager
    def _answered_anyhow(self, record: Record) -> Iterator[None]:
        """Whatever breaks, nobody may wait for ever."""
        try:
            yield
        except Exception:  # noqa: BLE001 - the next one has to be answered, and nothing is logged
            self._tally.failed += 1
            with suppress(OSError):
                self._gate.answer(record.fd, allow=self._fail_open)

    def _unless_stranger(self, record: Record) -> tuple[int, int] | None:
        """Process and slot of one that is to be handed on; everybody else passes here."""
        if fanotify.lost(record):
            self._tally.lost += 1
            return None
        pid = leader_of(record.tid)  # 0: killed meanwhile, or not of our pid namespace
        slot = self._slot_of(pid) if pid else 0
        if slot:
            return pid, slot
        self._tally.strangers += 1
        self._gate.answer(record.fd, allow=True)
        return None

    def _hand_on(self, record: Record, pid: int, slot: int) -> None:
        if slot in self._refused:
            self._tally.refused += 1
            self._gate.answer(record.fd, allow=False)
            return
        question = self._gate.question(record, self._last + 1, slot, pid)
        self._denials.asked(question)
        if len(self._waiting) >= self._most_waiting or not self._tell(question):
            self._tally.crowded += 1
            self._gate.answer(record.fd, allow=self._fail_open)
            return
        self._last += 1
        self._tally.asked += 1
        self._waiting[self._last] = Waiting(record.fd, record.tid, slot, question.ktime_ns)

    def _tell(self, news: News) -> bool:
        """False where a monitor that does not listen has left no room."""
        try:
            self._channel.send(self._news.encode(news), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _scope(tasks_fd: int, flags_fd: int, monitor_pid: int) -> Callable[[int], int]:
    """Whose a process is, by the maps that the kernel side itself goes by."""
    task_key, task = wire.MAPS["tasks"]
    tasks = bpf.Map(tasks_fd, task_key.packed, task.packed)
    flags = bpf.Cells(flags_fd, wire.MAPS["session_flags"][1].packed)
    never = {monitor_pid, os.getpid()}

    def slot_of(pid: int) -> int:
        row = None if pid in never else tasks.get(pid)
        slot = int(row[0]) if row is not None else 0
        (flag,) = (flags.get(slot) if slot else None) or (0,)
        return 0 if flag & wire.OBSERVED else slot

    return slot_of


def _settle_down(monitor_pid: int) -> None:
    # The signal comes when the *thread* ends that started us; the channel says the same, later.
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(_PR_SET_TIMERSLACK, 1)
    if os.getppid() != monitor_pid:
        sys.exit(1)
    os.chdir("/")
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    be_killed_last()
    gc.collect()
    gc.freeze()
    stay_in_memory()


def main() -> None:
    """Told by one argument of JSON: descriptors, the monitor's pid, and what to do without its word."""
    told = json.loads(sys.argv[1])
    channel = socket.socket(fileno=told["channel"])
    try:
        gate = OpenGate()
    except CaptureError as error:
        channel.send(msgspec.msgpack.encode(Ready(str(error), error.mend)))
        return
    slot_of = _scope(told["tasks"], told["session_flags"], told["monitor_pid"])
    keeper = Gatekeeper(
        gate, channel, Page(told["page"]), Denials(told["denials"]), slot_of, **told["options"]
    )
    _settle_down(told["monitor_pid"])
    keeper.run()
    # Nothing of the interpreter's clean-up may stand between the end and the marks' end.
    os._exit(0)


if __name__ == "__main__":
    main()
