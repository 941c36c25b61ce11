# SPDX-License-Identifier: Apache-2.0
"""Many ask the record in the first moment of a monitor, each on a thread."""

from __future__ import annotations

import subprocess
import sys

FIRST = """
import sys, threading
from pathlib import Path
from monitor.record import queries
from monitor.record.database import reading

begin = threading.Barrier(16)

def look(number):
    with reading(Path(sys.argv[1])) as connection:
        begin.wait()
        for turn in range(3):
            match (number // 4 + turn) % 3:
                case 0: assert queries.alerts(connection, {}).items
                case 1: assert queries.sessions(connection)
                case 2: assert queries.actions(connection, "s1")

sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=look, args=[number]) for number in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
MONITORS = 10


def test_first_readers_do_not_bring_the_monitor_down(
    store, directory, make_alert, make_session, make_action
):
    store.save_session(make_session())
    store.save_alert(make_alert())
    store.save_action(make_action())
    store.settle(5)
    for _ in range(MONITORS):
        done = subprocess.run(
            [sys.executable, "-c", FIRST, str(directory / "alerts.db")],
            capture_output=True,
            check=False,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
