# SPDX-License-Identifier: Apache-2.0
"""What the record promises when the disk is full, or the monitor is killed in the middle."""

from __future__ import annotations

import os
import re
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

KILLED_OFTEN = """
import os, pathlib, random, signal, sys, time
from monitor.casebook import Casebook
from monitor.record.store import Store
path = pathlib.Path(sys.argv[1]) / "state" / "alerts.db"
rounds = int(sys.argv[2])
chance = random.Random(7)

def write(first, said):
    store = Store(path)
    book = Casebook(store)
    for number in range(first, first + 1000):
        one = alert(number, 200)
        store.save_alert(one)
        session = SessionRef(id=f"s{number}", name="n")
        store.save_action(ActionRecord(id=f"r{number}", time="t", session=session, verb="freeze",
                                       who="w", why="", outcome=Outcome(action=Action.FROZEN)))
        book.stopped_by(session, "w", str(number))
        store.settle()
        os.write(said, b"%d " % number)

told = set()
for n in range(rounds):
    hear, said = os.pipe()
    child = os.fork()
    if child == 0:
        write(n * 1000, said)
    os.close(said)
    time.sleep(chance.uniform(0.0, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(hear) as heard:
        told |= {int(word) for word in heard.read().split()}
store = Store(path)
for number in told:
    assert store.alert(f"a{number}") is not None, number
    assert store.actions(f"s{number}"), number
    assert store.incidents(session=f"s{number}").items, number
store.close()
print("kept", len(told))
"""

READ_ONLY = """
import pathlib, subprocess, sys
from monitor.record.store import Store
place = pathlib.Path(sys.argv[1])
store = Store(place / "state" / "alerts.db")
store.save_alert(alert(1, 10))
assert store.close() == 0
subprocess.run(["mount", "-o", "remount,ro", place], check=True)
for directory in ("state", "new"):
    try:
        Store(place / directory / "alerts.db")
    except Exception as error:
        print(type(error).__name__, error, "|", error.mend)
subprocess.run(["mount", "-o", "remount,rw", place], check=True)
store = Store(place / "state" / "alerts.db")
assert store.alert("a1") is not None
store.close()
print("recovered")
"""


def program(source):
    return ALERT + textwrap.dedent(source)


def run(source, directory, *words, before=()):
    return subprocess.run(
        [*before, sys.executable, "-c", program(source), str(directory), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def small_disk(place):
    """Words before a command: 4 MiB of its own, in a mount namespace of its own."""
    script = 'mount -t tmpfs -o size=4m estop-test "$1" && shift && exec "$@"'
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", str(place)]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system; needs root")


@needs_root
def test_a_full_disk_loses_nothing_that_was_taken_and_says_so(tmp_path):
    done = run(FULL_DISK, tmp_path, before=small_disk(tmp_path))
    assert done.stdout.startswith("recovered"), done.stderr


@needs_root
def test_a_read_only_state_directory_is_named_with_a_mend_and_nothing_in_it_is_lost(tmp_path):
    done = run(READ_ONLY, tmp_path, before=small_disk(tmp_path))
    *refusals, end = done.stdout.splitlines() or [""]
    assert end == "recovered", done.stderr
    assert len(refusals) == 2
    for told in refusals:
        assert re.match(r"(Store|Config)Error .*Read-only file system", told), told
        assert str(tmp_path) in told
        assert told.partition(" | ")[2]


def test_killed_two_hundred_times_while_it_writes_it_keeps_all_that_it_acknowledged(tmp_path):
    done = run(KILLED_OFTEN, tmp_path, "200")
    word, kept = done.stdout.split() or ("", 0)
    assert (word, int(kept) > 500) == ("kept", True), done.stderr


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
