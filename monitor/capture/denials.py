# SPDX-License-Identifier: Apache-2.0
"""The last questions of the gate that were refused, in a file that both processes map.

An open that is refused leaves no record in the rings, and the monitor may be killed before its alert
is on disk, or before it has answered at all. Then the next monitor finds here what was refused. What
was let pass, by a gatekeeper that died too, is not here: its record is in the ring.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Collection

import msgspec

from monitor.capture.gatewords import Asked

SLOTS = 64
_SLOT_BYTES = 8192  # an `Asked` has one path of at most 4096 bytes, and a dozen numbers
_SIZE = SLOTS * _SLOT_BYTES
_HEAD = struct.Struct("=IIQ")  # bytes of the question, access, refused
_ACCESS = struct.Struct("=I")
_REFUSED = struct.Struct("=Q")
_ACCESS_AT, _REFUSED_AT = 4, 8


class Denials:
    """Slots by question number. Each word is stored whole; a slot is valid once it says `refused`."""

    def __init__(self, fd: int) -> None:
        """`fd` stays the caller's; the file is made as long as it must be."""
        if os.fstat(fd).st_size != _SIZE:
            os.ftruncate(fd, 0)
            os.ftruncate(fd, _SIZE)
        self._memory = mmap.mmap(fd, _SIZE)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Asked)

    def asked(self, question: Asked) -> None:
        """The gatekeeper: this is handed on, and not refused yet."""
        start = self._start(question.number)
        packet = self._encoder.encode(question)
        if len(packet) > _SLOT_BYTES - _HEAD.size:
            packet = b""
        _HEAD.pack_into(self._memory, start, len(packet), 0, 0)
        self._memory[start + _HEAD.size : start + _HEAD.size + len(packet)] = packet

    def understood(self, number: int, access: int) -> None:
        """The monitor: how the file is to be opened."""
        _ACCESS.pack_into(self._memory, self._start(number) + _ACCESS_AT, access)

    def access(self, number: int) -> int:
        """What the monitor understood; 0 if it has not."""
        (access,) = _ACCESS.unpack_from(self._memory, self._start(number) + _ACCESS_AT)
        return int(access)

    def refused(self, number: int) -> None:
        """The gatekeeper: it will not happen."""
        _REFUSED.pack_into(self._memory, self._start(number) + _REFUSED_AT, 1)

    def left(self) -> list[tuple[Asked, int]]:
        """What was refused, with its access, the oldest first; it stays until `told`."""
        found = []
        for start in range(0, _SIZE, _SLOT_BYTES):
            length, access, refused = _HEAD.unpack_from(self._memory, start)
            if refused and 0 < length <= _SLOT_BYTES - _HEAD.size:
                body = self._memory[start + _HEAD.size : start + _HEAD.size + length]
                try:
                    found.append((self._decoder.decode(body), access))
                except msgspec.DecodeError:  # of a monitor that spoke otherwise
                    continue
        return sorted(found, key=lambda pair: pair[0].ktime_ns)

    def told(self, questions: Collection[Asked]) -> None:
        """Forget these, where no later question lies in their slots."""
        for question, _ in self.left():
            if question in questions:
                _HEAD.pack_into(self._memory, self._start(question.number), 0, 0, 0)

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()

    @staticmethod
    def _start(number: int) -> int:
        return number % SLOTS * _SLOT_BYTES
