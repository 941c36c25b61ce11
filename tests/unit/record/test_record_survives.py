# SPDX-License-Identifier: Apache-2.0
"""What the record promises when the disk is full, or the monitor is killed in the middle."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

ALERT = """
from monitor.alerts import *
def alert(number, size):
    return Alert(
        id=f"a{number}", time="t", session=SessionRef(id="s", name="n"),
        rule=RuleRef(id="r", title="t", level=Level.HIGH), response=Response.FREEZE,
        outcome=Outcome(action=Action.FROZEN), event={"text": "x" * size},
    )
"""

FULL_DISK = """
import contextlib, pathlib, sys, time
from monitor.record.store import Store
directory = pathlib.Path(sys.argv[1]) / "state"
ballast = pathlib.Path(sys.argv[1]) / "ballast"
store = Store(directory / "alerts.db", capacity_rows=40)
store.save_alert(alert(0, 10))
assert store.flush(5)
with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
    while True:
        stream.write(bytes(4096))
started = time.monotonic()
taken = [store.save_alert(alert(number, 20_000)) for number in range(1, 61)]
assert time.monotonic() - started < 1, "the stop path waited for the disk"
assert not store.flush(1)
health = store.health()
assert f"no space left on {directory}/alerts.db" in health["error"], health
assert "free space" in health["error"] and "rows wait" in health["error"], health
# Which rows fit depends on how many were committed before the disk was full.
assert health["dropped"] == taken.count(False) > 0, (health, taken)
assert store.alert("a0") is not None, "reading must go on"
ballast.unlink()
assert store.flush(10), store.health()
assert store.health()["error"] == ""
for number, kept in enumerate(taken, 1):
    assert (store.alert(f"a{number}") is not None) == kept, number
assert store.close() == 0
print("recovered", taken.count(True))
"""

FILE_LIMIT = """
import pathlib, resource, sys, time
from monitor.record.store import Store
path = pathlib.Path(sys.argv[1]) / "state" / "alerts.db"
store = Store(path)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, hard))
for number in range(20):
    assert store.save_alert(alert(number, 20_000))
assert not store.flush(0.5)
health = store.health()
assert str(path) in health["error"] and f"{health['queue']} rows wait" in health["error"], health
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert store.flush(10), store.health()
assert store.health() == {"alerts": 20, "queue": 0, "dropped": 0, "error": ""}
store.close()
print("recovered")
"""

CLOSE_ON_FULL = """
import pathlib, resource, sys, time
from monitor.record.store import Store
store = Store(pathlib.Path(sys.argv[1]) / "state" / "alerts.db")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, hard))
for number in range(20):
    store.save_alert(alert(number, 20_000))
started = time.monotonic()
lost = store.close(1.0)
print("lost", lost, round(time.monotonic() - started))
"""

ENDLESS = """
import pathlib, sys
from monitor.record.store import Store
store = Store(pathlib.Path(sys.argv[1]) / "state" / "alerts.db")
store.subscribe(lambda seq: print(seq, flush=True))
number = 0
while True:
    store.save_alert(alert(number, 1000))
    number += 1
    if number % 50 == 0:
        store.flush(5)
"""


def program(source):
    return ALERT + textwrap.dedent(source)


def run(source, directory, *, before=()):
    return subprocess.run(
        [*before, sys.executable, "-c", program(source), str(directory)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system; needs root")
def test_a_full_disk_loses_nothing_that_was_taken_and_says_so(tmp_path):
    script = (
        'mount -t tmpfs -o size=4m estop-test "$1" && shift && exec "$@"'  # in its own namespace
    )
    before = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", str(tmp_path)]
    done = run(FULL_DISK, tmp_path, before=before)
    assert done.stdout.startswith("recovered"), done.stderr


def test_a_file_that_may_not_grow_is_named_and_recovered_from(tmp_path):
    done = run(FILE_LIMIT, tmp_path)
    assert done.stdout == "recovered\n", done.stderr


def test_close_gives_up_at_its_deadline_and_says_what_is_lost(tmp_path):
    done = run(CLOSE_ON_FULL, tmp_path)
    word, lost, seconds = done.stdout.split()
    assert (word, int(lost) > 0, int(seconds)) == ("lost", True, 1), done.stderr


def test_a_kill_in_the_middle_of_writing_loses_nothing_announced(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", program(ENDLESS), str(tmp_path)], stdout=subprocess.PIPE
    ) as writer:
        announced = 0
        while announced < 300:
            announced = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        announced = max([announced, *map(int, writer.stdout.read().split())])
        writer.wait()
    connection = sqlite3.connect(tmp_path / "state" / "alerts.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    found = connection.execute("SELECT count(*), max(seq) FROM alerts").fetchone()
    connection.close()
    assert found[0] == found[1] >= announced


def test_the_limits_of_this_process_are_what_the_tests_assume():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
