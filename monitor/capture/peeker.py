# SPDX-License-Identifier: Apache-2.0
"""Reads memory of others that may never be there, in processes of its own, and waits only so long.

A page can be one of a file that its owner serves himself (FUSE). Who reads it sleeps until that
answers, and no signal ends that sleep: neither the pipeline may do it nor any thread of the monitor,
which could not end then. A process that sleeps so is left to itself, for another one.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress

_TOLD_MS = 3
"""Measured on two shared cores: 0.05 ms, one in a hundred 0.95 ms. A page of swap may take longer."""
_END_S = 0.1
_LOOK_S = 0.001
_READY = 2
_MOST = 6
"""With those that sleep: who makes more of them sleep has all openat2 told by their records."""
_ASKED = struct.Struct("=iQ")
_BYTES = 8
_WORD = b"ready..."


class _Process:
    """One of them; it has told that it is ready, or has not yet."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # No package has to be imported: it is there in 20 ms, and small.
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._ready = False

    def is_ready(self) -> bool:
        if not self._ready:
            with suppress(OSError):
                self._ready = self.channel.recv(_BYTES, socket.MSG_DONTWAIT) == _WORD
        return self._ready

    def read(self, tid: int, address: int) -> bytes | None:
        """None if it did not say in time: then it is of no more use."""
        self.channel.settimeout(_TOLD_MS / 1000)
        try:
            self.channel.send(_ASKED.pack(tid, address))
            return self.channel.recv(_BYTES) or None
        except OSError:
            return None

    def end(self) -> bool:
        """Has it ended? One that sleeps for good does so when its page comes, or is gone."""
        self.channel.close()
        self.process.kill()
        return self.process.poll() is not None


class Peeker:
    """One that was not started, or was stopped, knows nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: list[_Process] = []
        self._stuck: list[_Process] = []

    def start(self, timeout_s: float) -> None:
        """Have some ready; waited for at most so long."""
        with self._lock:
            self._fill()
        end = time.monotonic() + timeout_s
        while not self._is_ready() and time.monotonic() < end:
            time.sleep(_LOOK_S)

    def _is_ready(self) -> bool:
        with self._lock:
            return all(one.is_ready() for one in self._processes)

    def _fill(self) -> None:
        self._stuck = [one for one in self._stuck if not one.end()]
        while len(self._processes) < _READY and len(self._processes) + len(self._stuck) < _MOST:
            self._processes.append(_Process())

    def number_at(self, tid: int, address: int) -> int | None:
        """Eight bytes of a thread's memory; None where they cannot be read, or not within 3 ms."""
        with self._lock:
            one = next((p for p in self._processes if p.is_ready()), None)
            found = one.read(tid, address) if one is not None else None
            if one is not None and found is None:
                self._processes.remove(one)
                self._stuck.append(one)
                self._fill()
        return int.from_bytes(found, "little") if found and len(found) == _BYTES else None

    def stop(self) -> None:
        """End them, and wait for none that sleeps."""
        with self._lock:
            ended = [*self._processes, *self._stuck]
            for one in ended:
                one.end()
            for one in ended:
                with suppress(subprocess.TimeoutExpired):
                    one.process.wait(_END_S)
            self._processes, self._stuck = [], [one for one in ended if one.process.poll() is None]


def _peek(tid: int, address: int) -> bytes:
    """What is there; one byte where nothing can be read, because none would say that we are gone."""
    try:
        memory = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b"-"
    try:
        return os.pread(memory, _BYTES, address) or b"-"
    except (OSError, OverflowError):
        return b"-"
    finally:
        os.close(memory)


def main() -> None:
    """Told by its argument: the descriptor of its channel, whose other end it does not outlive."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)  # a thread waits at the gate meanwhile
    with suppress(OSError):
        channel.send(_WORD)
        while asked := channel.recv(_ASKED.size):
            channel.send(_peek(*_ASKED.unpack(asked)))


if __name__ == "__main__":
    main()
