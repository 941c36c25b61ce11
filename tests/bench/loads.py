# SPDX-License-Identifier: Apache-2.0
"""The work that is timed: runs alone, inside or outside a session, and prints what it measured."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path


def build(files: int) -> None:
    """Compile small C files one after the other; prints ms for one, without the tenths at the ends.

    On a shared machine now and then one takes ten times as long, monitor or not.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(files):
            Path(scratch, f"{number}.c").write_text(
                f'#include <stdio.h>\n#include <stdlib.h>\nint f{number}(void) {{ return puts(""); }}\n'
            )
        took_ms = []
        for number in range(files):
            start = time.perf_counter_ns()
            subprocess.run(["cc", "-c", f"{number}.c"], cwd=scratch, check=True)
            took_ms.append((time.perf_counter_ns() - start) / 1e6)
        tenth = files // 10
        print(statistics.mean(sorted(took_ms)[tenth : files - tenth]))


def burst(rate: int, seconds: float) -> None:
    """Create new files at a rate; prints how many were made each second."""
    made = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        start = time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            for _ in range(min(200, int(rate * passed) - made)):
                os.close(os.open(f"{scratch}/{made}", os.O_CREAT | os.O_WRONLY))
                made += 1
        print(made / seconds)


def leak(case: str, port: str, secret: str, uring: str, delay_ms: str) -> None:
    """Once told to: have bytes on their way out by `case`, then edit the hosts file, and wait."""
    print("ready", flush=True)
    sys.stdin.readline()
    if case == "queued":
        client = socket.create_connection(("127.0.0.1", int(port)))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        client.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                client.send(bytes(1 << 20))
    else:
        ring = subprocess.Popen([uring, case, delay_ms, port, secret], stdout=subprocess.PIPE)
        assert ring.stdout is not None
        assert ring.stdout.readline() == b"armed\n"
    with suppress(PermissionError):
        os.close(os.open("/etc/hosts", os.O_WRONLY))
    time.sleep(60)


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    {
        "build": lambda: build(int(arguments[0])),
        "burst": lambda: burst(int(arguments[0]), float(arguments[1])),
        "leak": lambda: leak(*arguments),
    }[name]()
