# SPDX-License-Identifier: Apache-2.0
"""The line procfs shows of a call that sleeps, read for how a file is to be opened."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import threading
import time

import pytest

from monitor.capture.blocked import ANYTHING, UNTOLD, access_of, leader_of, untold
from monitor.capture.blocked import parse as parse_line
from monitor.capture.peeker import Peeker
from monitor.events import Access

AT_FDCWD = 0xFFFFFF9C
PR_SET_NAME = 15


@pytest.fixture
def peeker():
    peeker = Peeker()
    peeker.start(10)
    yield peeker
    peeker.stop()


def parse(text, tid=0):
    return parse_line(text, tid, untold)


def line(number, *args, stack=0x7FFD0000, at=0x7F000000):
    words = [*args, *[0] * (6 - len(args)), stack, at]
    return f"{number} " + " ".join(f"{word:#x}" for word in words) + "\n"


@pytest.mark.parametrize(
    ("text", "access"),
    [
        (line(257, AT_FDCWD, 0x1000, os.O_RDONLY | os.O_CLOEXEC), Access.READ),
        (line(257, AT_FDCWD, 0x1000, os.O_WRONLY | os.O_APPEND), Access.WRITE),
        (line(257, AT_FDCWD, 0x1000, os.O_RDONLY | os.O_TRUNC), ANYTHING),
        (line(2, 0x1000, os.O_RDWR), ANYTHING),
        (line(5, 0x1000, os.O_WRONLY), Access.WRITE),
        (line(295, AT_FDCWD, 0x1000, os.O_WRONLY), Access.WRITE),
        (line(304, 3, 0x1000, os.O_WRONLY), Access.WRITE),
        (line(342, 3, 0x1000, os.O_RDONLY), Access.READ),
        (line(85, 0x1000, 0o600), Access.WRITE),
        (line(8, 0x1000, 0o600), Access.WRITE),
        (line(0x4000_0000 | 257, AT_FDCWD, 0x1000, os.O_WRONLY), Access.WRITE),
        (line(59, 0x1000), Access.READ),
        (line(358, AT_FDCWD, 0x1000), Access.READ),
        (line(426, 3, 1, 1), ANYTHING),
        ("-1 0x7ffd0000 0x7f000000\n", ANYTHING),
        ("", ANYTHING),
    ],
)
def test_a_call_says_how_it_opens_and_one_that_does_not_counts_as_everything(text, access):
    assert parse(text) == access


def test_registers_that_a_worker_of_io_uring_inherited_are_not_its_own_call():
    inherited = line(257, AT_FDCWD, 0x1000, os.O_RDONLY, stack=0, at=0)
    assert parse(inherited) == ANYTHING


@pytest.mark.parametrize(
    ("flags", "access"),
    [(os.O_RDONLY, Access.READ), (os.O_WRONLY, Access.WRITE), (os.O_RDWR | os.O_CREAT, ANYTHING)],
)
def test_openat2_says_it_in_the_memory_of_its_caller(peeker, flags, access):
    how = ctypes.create_string_buffer(struct.pack("<QQQ", flags, 0, 0))
    call = line(437, AT_FDCWD, 0x1000, ctypes.addressof(how), 24)
    assert parse_line(call, threading.get_native_id(), peeker.number_at) == access


def test_memory_that_cannot_be_read_is_no_reason_to_refuse_a_reader(peeker):
    call, tid = line(437, AT_FDCWD, 0x1000, 0x2000, 24), threading.get_native_id()
    for address in (0x2000, 2**64 - 1):
        assert peeker.number_at(tid, address) is None
    assert parse_line(call, tid, peeker.number_at) == UNTOLD
    assert len(peeker._processes) == 2
    assert not peeker._stuck


def test_a_peeker_that_was_stopped_or_not_started_knows_nothing(peeker):
    peeker.stop()
    assert peeker.number_at(threading.get_native_id(), 0x2000) is None
    assert Peeker().number_at(threading.get_native_id(), 0x2000) is None


def test_of_a_thread_that_runs_or_is_gone_nothing_is_known():
    assert access_of(2**22 + 1, untold) == UNTOLD
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        assert access_of(busy.pid, untold) == UNTOLD
    finally:
        busy.kill()
        busy.wait()


def test_a_thread_belongs_to_its_process():
    found = []
    thread = threading.Thread(target=lambda: found.append(leader_of(threading.get_native_id())))
    thread.start()
    thread.join()
    assert found == [os.getpid()] == [leader_of(os.getpid())]
    assert leader_of(2**22 + 1) == 0


def test_a_thread_that_is_named_like_a_line_belongs_to_its_process():
    """Or its opens would be taken for those of another one, who is in no session."""
    found = []

    def named():
        ctypes.CDLL(None).prctl(PR_SET_NAME, b"a\rTgid:\t1", 0, 0, 0)
        found.append(leader_of(threading.get_native_id()))

    thread = threading.Thread(target=named)
    thread.start()
    thread.join()
    assert found == [os.getpid()]
