# SPDX-License-Identifier: Apache-2.0
"""Nobody holds the gate: no file that blocks whoever opens it, and not the monitor itself."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import time

import pytest
from gates import ROOT, Guard
from laboratory import until
from ways import by_path


def test_a_fifo_in_a_watched_directory_does_not_hold_the_gate(guard, puppet, inside, scratch):
    os.mkfifo(scratch / "fifo")
    (scratch / "file").touch()
    guard.watch(directories=(scratch,))
    guard.answering(lambda _: True)
    puppet.become("open", os.fsencode(scratch / "fifo"), os.O_WRONLY)
    by_path(inside.puppet(), scratch / "file", os.O_RDONLY)


def leased(fd):
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return False  # our question about the open of `fd` is not quite closed yet
    return True


def test_a_lease_does_not_hold_the_gate(guard, inside, file):
    """An open that the monitor made for itself would wait 45 s for the holder of the lease."""
    guard.watch(file)
    guard.answering(lambda _: True)
    holder = os.open(file, os.O_WRONLY)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # how the kernel asks for it back
    try:
        assert until(lambda: leased(holder))
        start = time.monotonic()
        with pytest.raises(PermissionError):
            by_path(inside.puppet(), file, os.O_RDONLY)
        assert time.monotonic() - start < 1
        assert until(lambda: guard.gate.tally.unread == 1)
    finally:
        os.close(holder)
        signal.signal(signal.SIGIO, before)
    by_path(inside.puppet(), file, os.O_RDONLY)


def test_the_monitor_passes_even_if_it_were_in_a_session(guard, inside, kernel, file):
    guard.watch(file)
    kernel.map("tasks").set((os.getpid(),), (inside.slot, 0, 0))
    try:
        assert file.read_text() == "content"
    finally:
        kernel.forget_task(os.getpid())
    assert until(lambda: guard.gate.tally.strangers == 1)
    assert not guard.asked()


def test_a_monitor_that_keeps_the_interpreters_lock_does_not_hold_itself(guard, file):
    """`pwd.getpwall` does so, and a thread of the monitor could then not answer it."""
    guard.watch(file)
    fd = ctypes.PyDLL(None).open(os.fsencode(file), os.O_RDONLY)
    assert fd >= 0
    os.close(fd)


OPENS = """
import os, sys
opens, settled = [], []
def hook(event, args):
    if event == 'open' and settled:
        opens.append(str(args[0]))
sys.addaudithook(hook)
from monitor.capture import gatekeeper
settle_down = gatekeeper._settle_down
def then(pid):
    settle_down(pid)
    settled.append(pid)
gatekeeper._settle_down = then
run = gatekeeper.Gatekeeper.run
def watched(self):
    run(self)
    print(*opens, sep='\\n')
    sys.stdout.flush()
gatekeeper.Gatekeeper.run = watched
gatekeeper.main()
"""


def test_the_gatekeeper_opens_nothing_outside_proc(kernel, inside, file, scratch, monkeypatch):
    """An open of a watched file by itself could never be answered."""
    report = scratch / "opens"
    start = subprocess.Popen

    def spied(command, **options):
        if "gatekeeper" not in " ".join(map(str, command)):
            return start(command, **options)
        with report.open("wb") as out:
            command = [command[0], "-P", "-c", OPENS, command[-1]]
            return start(command, **{**options, "stdout": out, "cwd": ROOT})

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", spied)
        guard = Guard(kernel)
    try:
        guard.watch(file)
        guard.refusing()
        with pytest.raises(PermissionError):
            by_path(inside.puppet(), file, os.O_RDWR)
        assert file.read_text()
        assert guard.gate.tally.asked == 1
    finally:
        guard.close()
    opens = report.read_text().split()
    strange = [o for o in opens if not o.startswith("/proc/") and o != str(file)]
    assert opens
    assert not strange
