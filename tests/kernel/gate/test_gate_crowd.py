# SPDX-License-Identifier: Apache-2.0
"""Many who ask at once are all answered, and a stranger hardly notices the gate."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from gates import BOTH
from laboratory import until
from ways import by_path

from monitor.capture import fanotify
from monitor.capture.fanotify import Mask

# Strangers --------------------------------------------------------------------------------------


def test_an_observed_session_is_a_stranger(guard, lab, file):
    """It is never refused anything, not even when nobody answers."""
    guard.watch(file)
    with lab.session(watched=False) as observed:
        observed.watch(observed=True)
        by_path(observed.puppet(), file, os.O_RDWR)
    assert not guard.asked()


def test_a_stranger_is_let_pass_at_once(guard, file):
    guard.watch(file)
    script = (
        "import os, sys, time\n"
        "for path in sys.argv[1:]:\n"
        "    took = []\n"
        "    for _ in range(2000):\n"
        "        start = time.perf_counter_ns(); fd = os.open(path, os.O_RDONLY)\n"
        "        took.append(time.perf_counter_ns() - start); os.close(fd)\n"
        "    took.sort(); print(took[1000] // 1000, took[1980] // 1000)\n"
    )
    (file.parent / "plain").touch()
    command = [sys.executable, "-c", script, str(file.parent / "plain"), str(file)]
    plain, watched = subprocess.check_output(command, text=True).splitlines()
    print(f"an outsider's open, p50 and p99 in us: plain {plain}, watched {watched}")
    assert until(lambda: guard.gate.tally.strangers == 2000)
    assert not guard.gate.tally.asked
    assert int(watched.split()[0]) < 1000


# Many -------------------------------------------------------------------------------------------


CROWD = """
import os, sys, threading
refused = []
def go():
    try: os.open(sys.argv[1], os.O_RDWR)
    except PermissionError: refused.append(1)
threads = [threading.Thread(target=go) for _ in range(200)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(refused), flush=True)
"""


def test_two_hundred_who_ask_at_once_are_all_answered(guard, inside, file):
    guard.watch(file)
    process = inside.start("/usr/bin/python3", "-c", CROWD, str(file))
    questions = []
    assert until(lambda: questions.extend(guard.gate.take()) or len(questions) == 200, 15)
    assert {q.access for q in questions} == {BOTH}
    for number, question in enumerate(questions):
        guard.gate.answer(question, allow=bool(number % 2))
    assert inside.said(process) == b"100\n"
    tally = guard.gate.tally
    assert (tally.asked, tally.late, tally.crowded) == (200, 0, 0)


@contextmanager
def small_group(directory):
    """A group with the kernel's usual queue, which forgets what does not fit."""
    libc = ctypes.CDLL(None, use_errno=True)
    group = libc.fanotify_init(0x4 | 0x1 | 0x2, os.O_RDONLY | os.O_CLOEXEC)
    assert group >= 0
    try:
        fanotify.add_mark(group, str(directory), Mask(0x20 | Mask.EVENT_ON_CHILD))
        yield group
    finally:
        os.close(group)


def test_an_overflow_of_the_queue_is_told_from_a_question(scratch):
    most = int(Path("/proc/sys/fs/fanotify/max_queued_events").read_text())
    with small_group(scratch) as group:
        for number in range(most + 10):
            os.close(os.open(scratch / str(number), os.O_WRONLY | os.O_CREAT, 0o600))
        seen = lost = 0
        while True:
            try:
                records = fanotify.read(group)
            except BlockingIOError:
                break
            for record in records:
                lost += fanotify.lost(record)
                if record.fd >= 0:
                    seen += 1
                    os.close(record.fd)
    assert (seen, lost) == (most, 1)


def test_the_gate_itself_has_no_limit_to_overflow(guard):
    infos = [p.read_text() for p in Path(f"/proc/{guard.gate.pid}/fdinfo").iterdir()]
    [line] = [r for text in infos for r in text.splitlines() if r.startswith("fanotify flags:")]
    assert int(line.split()[1].removeprefix("flags:"), 16) & 0x30 == 0x30
