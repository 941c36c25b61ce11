# SPDX-License-Identifier: Apache-2.0
"""A program, a privileged operation and a local socket are held like a file."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from pathlib import Path

import pytest
from held import go_on, held_by, judged, watching
from laboratory import until
from states import state_of

from monitor.events import Executed, Privileged, UnixConnected, Verdict
from monitor.lowered import Act, Lowered, SocketWatch, Where


@pytest.mark.usefixtures("certainty_holds")
def test_a_program_is_held_before_its_first_instruction(inside, verdicts, holds, lab):
    image = lab.program("puppet")
    watching(verdicts, Where.EXACT, Path(image).resolve(), Act.EXEC, Act.EXEC)
    process = inside.start("puppet")
    event = inside.wait(Executed, lambda e: e.verdict)
    assert event.verdict == Verdict.CANDIDATE | Verdict.CERTAIN | Verdict.STOPPED
    assert until(lambda: state_of(process.pid) == "T")
    assert not select.select([process.stdout], [], [], 0.05)[0]
    judged(holds, inside)
    os.kill(process.pid, signal.SIGCONT)
    assert inside.said(process) == b"ready\n"


@pytest.mark.usefixtures("certainty_holds")
def test_a_privileged_operation_and_a_local_socket_are_held(
    inside, puppet, kernel, verdicts, holds, scratch
):
    kernel.judge_by(below=False, operations=["memfd_create"])
    held_by(inside, puppet, "memfd_create", puppet.place(b"x"), 0, kind=Privileged)
    go_on(holds, inside, puppet)
    path = scratch / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        verdicts.replace(
            Lowered(sockets=(SocketWatch(Where.ENDING, "/docker.sock", certain=True),))
        )
        fd = puppet("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
        name = struct.pack("H", socket.AF_UNIX) + os.fsencode(path) + b"\0"
        call = ("connect", fd, puppet.place(name), len(name))
        held_by(inside, puppet, *call, kind=UnixConnected)
    go_on(holds, inside, puppet)
