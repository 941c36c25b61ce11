# SPDX-License-Identifier: Apache-2.0
"""Who is refused nothing: outsiders, the observed, whom the rule forgives, and ordinary work."""

from __future__ import annotations

import os
import signal
import socket

import pytest
from calls import opening

from monitor.events import Opened, Verdict

pytestmark = pytest.mark.tier("lsm")


def test_outsiders_and_observed_sessions_are_refused_nothing(lab, hosts, kernel):
    for observed in (False, True):
        with lab.session(watched=False) as session:
            if observed:
                session.watch(observed=True)
            puppet = session.puppet()
            assert puppet(*opening(puppet, hosts, os.O_RDWR)) >= 0
            fd = puppet("socket", socket.AF_PACKET, socket.SOCK_RAW, 0)
            assert fd >= 0
            assert puppet("io_uring_setup", 4, puppet.place(bytes(120))) >= 0
            assert puppet("kill", os.getpid(), signal.SIGURG) == 0
            if observed:
                event = session.wait(Opened, lambda e: e.file.path.text == str(hosts))
                assert event.verdict == Verdict.PASS


def test_who_the_rule_forgives_is_not_refused(inside, puppet, hosts, watch):
    watch(hosts, exempt=[puppet.image])
    assert puppet(*opening(puppet, hosts, os.O_RDWR)) >= 0


def test_ordinary_work_is_not_disturbed(inside, hosts, scratch):
    work = scratch / "work"
    work.mkdir()
    (work / "main.c").write_text("int main(void) { return 0; }\n")
    script = (
        "set -e; git init -q .; git add .; git -c user.name=x -c user.email=x@y commit -qm x;"
        "gcc -o main main.c; ./main; rm -r .git; ps aux >/dev/null; head -c1 /etc/passwd"
    )
    process = inside.start("/bin/sh", "-c", script, cwd=work)
    assert process.wait(120) == 0
