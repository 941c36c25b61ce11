# SPDX-License-Identifier: Apache-2.0
"""What an openat2 asks for lies in memory that its maker can keep back for ever: nobody waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from gates import a_monitor, guarding
from laboratory import until
from ways import by_openat2

from monitor.capture.blocked import UNTOLD
from monitor.events import Access

pytestmark = pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="no FUSE here")

KEEPS_BACK = """
import ctypes, os, struct, sys, threading, time
point, watched = os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
assert not libc.unshare(0x20000)
assert not libc.mount(b'none', b'/', None, 0x44000, None)
device = os.open('/dev/fuse', os.O_RDWR)
options = b'fd=%d,rootmode=40000,user_id=0,group_id=0' % device
assert not libc.mount(b'none', point, b'fuse', 0, options), os.strerror(ctypes.get_errno())

def attributes(node):
    mode = 0o40755 if node == 1 else 0o100644
    return struct.pack('<6Q10I', node, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

def serve():
    while True:
        try:
            asked = os.read(device, 1 << 20)
        except OSError:
            return
        _, what, number, node = struct.unpack_from('<IIQQ', asked)
        answer = {
            26: lambda: struct.pack('<IIIIHHIIHHI7I', 7, 31, 0, 0, 9, 8, 4096, 1, 1, 0, 0, *[0] * 7),
            1: lambda: struct.pack('<4Q2I', 2, 0, 1000, 1000, 0, 0) + attributes(2),
            3: lambda: struct.pack('<Q2I', 1000, 0, 0) + attributes(node),
            14: lambda: struct.pack('<Q2I', 1, 0, 0),
        }.get(what)
        if what == 15:  # a read: for ever
            continue
        body = answer() if answer else b''
        os.write(device, struct.pack('<IiQ', 16 + len(body), 0 if answer else -38, number) + body)

threading.Thread(target=serve, daemon=True).start()
file = os.open(point + b'/page', os.O_RDONLY)
page = libc.mmap(None, 4096, 3, 0x22, -1, 0)
ctypes.memmove(page, struct.pack('<QQQ', os.O_WRONLY, 0, 0), 24)

def opens():
    waiting.append(threading.get_native_id())
    fd = libc.syscall(437, -100, watched, ctypes.c_void_p(page), 24)
    print('opened' if fd >= 0 else 'refused', flush=True)

waiting = []
opener = threading.Thread(target=opens)
opener.start()
# Until it waits at the gate: then the kernel has read what it wants.
while not waiting or 'fanotify' not in open(f'/proc/self/task/{waiting[0]}/wchan').read():
    time.sleep(0.01)
assert libc.mmap(page, 4096, 1, 0x12, file, 0) == page
os.close(file)  # or its end would wait for an answer to that, which it would have to give
print('kept back', flush=True)
opener.join()
time.sleep(600)
"""


@pytest.fixture
def keeper(inside, scratch, file):
    """A process of the session that waits at the gate, and keeps back what it asked for."""
    made, watchdogs = [], []

    def keeper():
        point = scratch / f"served{len(made)}"
        point.mkdir()
        process = inside.start("/usr/bin/python3", "-c", KEEPS_BACK, str(point), str(file))
        made.append(process)
        # Whoever waits for it all the same fails then, and does not wait for ever.
        watchdogs.append(threading.Timer(8, process.kill))
        watchdogs[-1].start()
        assert inside.said(process) == b"kept back\n"
        return process

    yield keeper
    for watchdog in watchdogs:
        watchdog.cancel()
    for process in made:
        process.kill()
        process.wait(5)


def test_memory_that_never_comes_is_not_waited_for(guard, keeper, puppet, file):
    guard.watch(file)
    keeper()
    start = time.monotonic()
    question = guard.next()
    assert time.monotonic() - start < 0.2
    assert question.access == UNTOLD
    guard.gate.answer(question, allow=False)
    guard.refusing()
    with pytest.raises(PermissionError):
        by_openat2(puppet, file, os.O_WRONLY)
    assert [q.access for q in guard.questions] == [Access.WRITE]


def test_who_keeps_all_of_us_waiting_leaves_us_untold_and_not_waiting(guard, keeper, puppet, file):
    guard.watch(file)
    for _ in range(8):
        keeper()
        start = time.monotonic()
        guard.gate.answer(guard.next(), allow=False)
        assert time.monotonic() - start < 0.2
    start = time.monotonic()
    guard.gate.stop()
    assert time.monotonic() - start < 3


def test_the_gatekeeper_gives_up_on_who_keeps_it_back_and_hears_others(
    kernel, inside, keeper, file
):
    with guarding(kernel, hold_timeout_ms=1000) as guard:
        guard.watch(file)
        process = keeper()  # nobody takes its question
        assert inside.said(process) == b"refused\n"
        assert until(lambda: guard.gate.tally.late == 1)
        subprocess.run(["/bin/cat", file], check=True, timeout=3, stdout=subprocess.DEVNULL)
        start = time.monotonic()
        guard.gate.stop()
        assert time.monotonic() - start < 3


def test_a_monitor_that_has_been_kept_back_ends_when_it_is_told_to(kernel, keeper, file):
    monitor = a_monitor(kernel, file)
    try:
        assert int(monitor.stdout.readline()) > 1  # it is ready
        keeper()
        assert monitor.stdout.readline() == b"asked\n"
        monitor.terminate()
        assert monitor.wait(3) == -signal.SIGTERM
    finally:
        with suppress(ProcessLookupError):
            monitor.kill()
        monitor.stdout.close()
