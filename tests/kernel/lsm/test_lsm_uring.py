# SPDX-License-Identifier: Apache-2.0
"""No session has a ring, and what goes through one is refused like a call."""

from __future__ import annotations

import mmap
import os
import struct

import pytest
from calls import CWD, opening
from laboratory import Puppet
from refusals import KEPT

from monitor.capture.kernel import KernelSettings
from monitor.events import Privileged, Verdict

pytestmark = pytest.mark.tier("lsm")


class Ring:
    """One io_uring of a puppet, a request at a time."""

    def __init__(self, puppet, scratch):
        self._puppet = puppet
        self._copy = puppet(*opening(puppet, scratch / "copy", os.O_CREAT | os.O_RDWR))
        params = puppet.place(bytes(120))
        self.fd = puppet("io_uring_setup", 4, params)
        said = puppet.memory(params, 120)
        self._tail, self._array = struct.unpack_from("4xI16xI", said, 40)
        self._mask = struct.unpack_from("8xI", said, 40)[0]
        self._completions = struct.unpack_from("20xI", said, 80)[0]
        shared = (mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, self.fd)
        self._ring = puppet("mmap", 0, 4096, *shared, 0)
        self._entries = puppet("mmap", 0, 4096, *shared, 0x10000000)
        self._count = 0

    def _poke(self, address, content):
        self._puppet("pwrite64", self._copy, self._puppet.place(content), len(content), 0)
        self._puppet("pread64", self._copy, address, len(content), 0)

    def __call__(self, operation, fd, address, length=0, offset=0, flags=0):
        entry = struct.pack("<BBHiQQII", operation, 0, 0, fd, offset, address, length, flags)
        self._poke(self._entries, entry.ljust(64, b"\0"))
        self._count += 1
        self._poke(self._ring + self._array + 4 * ((self._count - 1) % 4), struct.pack("I", 0))
        self._poke(self._ring + self._tail, struct.pack("I", self._count))
        # No answer is ever taken out of the ring: wait for as many as there were requests.
        assert self._puppet("io_uring_enter", self.fd, 1, self._count, 1, 0, 0) == 1
        at = self._ring + self._completions + 16 * ((self._count - 1) % 8)
        return struct.unpack("8xi4x", self._puppet.memory(at, 16))[0]


_OPENAT, _READ, _WRITE, _RENAMEAT = 18, 22, 23, 35


def test_io_uring_is_refused_to_every_session_and_that_is_told(inside, puppet):
    with pytest.raises(PermissionError):
        puppet("io_uring_setup", 4, puppet.place(bytes(120)))
    event = inside.wait(Privileged)
    assert (event.operation, event.verdict) == ("io_uring_setup", Verdict.REFUSED)


@pytest.fixture
def with_rings(kernel):
    kernel.refuse_operations(())
    yield
    kernel.refuse_operations(KernelSettings.refused_operations)


def test_what_io_uring_does_is_refused_like_a_call(inside, hosts, scratch, with_rings):
    fd = os.open(hosts, os.O_RDWR)
    puppet = Puppet(inside.ready("puppet", pass_fds=(fd,)))
    ring = Ring(puppet, scratch)
    path, other = (puppet.place(os.fsencode(p)) for p in (hosts, hosts.parent / "other"))
    free = ring(_OPENAT, CWD, other, 0, 0, os.O_RDONLY)
    assert free >= 0
    assert ring(_OPENAT, CWD, path, 0, 0, os.O_RDONLY) == -1
    assert ring(_OPENAT, CWD, path, 0, 0, os.O_WRONLY | os.O_TRUNC) == -1
    assert ring(_WRITE, fd, other, 4) == -1
    assert ring(_READ, fd, puppet.place(b"." * 64), 64) == -1
    assert ring(_RENAMEAT, CWD, other, CWD & 0xFFFFFFFF, path) == -1
    os.close(fd)
    assert hosts.read_bytes() == KEPT
