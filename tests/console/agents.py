# SPDX-License-Identifier: Apache-2.0
"""Agents for a person to look at: each edits the hosts file of its own stage, twice."""

from __future__ import annotations

import os
import pwd
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.client import MonitorError
from agent.private_monitor import Monitor, until
from tests.stage.onstage import on_stage

_PYTHON = "/usr/bin/python3"  # the tests' own may lie where the agent's user cannot look
_WAIT_S = 60.0

HOSTILE = b"\xff\n\x1b[31m<img src=x onerror=alert(1)>\xe2\x80\xaegpj.exe"
"""A file name: not UTF-8, two lines, a colour, markup, and the direction turned."""
SHOWN = r"\xff\n\x1b[31m<img src=x onerror=alert(1)>\u202egpj.exe"

_PROGRAM = r"""
import os, subprocess, sys, time
word, home = sys.argv[1:3]
again, mark = os.path.join(home, "again"), lambda name: open(os.path.join(home, name), "w").close()
if word == "hostile":
    name = os.path.join(os.fsencode(home), os.environb[b"NAME"])
    subprocess.run(["/bin/cp", b"/bin/true", name], check=True)
    subprocess.run([name, os.environb[b"NAME"]], check=True)
while word in ("idle", "busy"):
    time.sleep(0.1)
    if word == "busy":
        subprocess.run(["/bin/true"], check=True)
for step in ("first", "second"):
    subprocess.run(["/bin/sh", "-c", "echo 127.0.0.1 bank.example >> /etc/hosts; true"], check=True)
    mark(step)
while True:
    time.sleep(0.1)
"""


@dataclass(frozen=True, slots=True)
class Agent:
    """A running one, and what the monitor says of it."""

    monitor: Monitor
    name: str
    home: Path

    @property
    def state(self) -> str:
        try:
            return self.monitor.session(self.name)["state"]
        except MonitorError:
            return ""  # not adopted yet

    def becomes(self, state: str) -> bool:
        return until(lambda: self.state == state, _WAIT_S)

    def reaches(self, step: str) -> bool:
        """Has it come through its first or second act?"""
        return until((self.home / step).exists, _WAIT_S)

    @property
    def incident(self) -> dict:
        """The newest of its incidents; the stop is not kept waiting for its record."""
        target = f"/incidents?session={self.name}"
        assert until(lambda: bool(self.monitor.get(target)["items"]), _WAIT_S)
        return self.monitor.get(target)["items"][0]


@contextmanager
def agent(monitor: Monitor, ground: Path, name: str, word: str = "hosts"):
    """Run one until the end of the block. `word`: `hosts`, `hostile`, `busy` or `idle`."""
    user = pwd.getpwnam(os.environ.get("SUDO_USER", "nobody"))
    place = ground / name
    home, program, hosts = place / "home", place / "agent.py", place / "hosts"
    home.mkdir(parents=True)
    program.write_text(_PROGRAM)
    shutil.copy("/etc/hosts", hosts)
    for mine in (home, hosts):
        os.chown(mine, user.pw_uid, user.pw_gid)
    words = monitor.run_command(name, "--user", user.pw_name, "--home", str(place))
    words += [_PYTHON, str(program), word, str(home)]
    environ = {**{os.fsencode(k): os.fsencode(v) for k, v in os.environ.items()}, b"NAME": HOSTILE}
    binds, log = {str(hosts): "/etc/hosts"}, place / "log"
    with on_stage(monitor, name, words, binds=binds, home=home, environ=environ, log=log):
        yield Agent(monitor, name, home)
