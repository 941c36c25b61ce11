# SPDX-License-Identifier: Apache-2.0
"""The stage: private, and with a name server that answers."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path

from agent import stage
from agent.demo_agent import question

_HEADER = struct.Struct("!HHHHHH")


def test_every_name_leads_to_this_machine():
    asked = question("api.stripe.com")
    answered = stage.answer(asked)
    number, flags, questions, answers, _, _ = _HEADER.unpack(answered[: _HEADER.size])
    assert number == _HEADER.unpack(asked[: _HEADER.size])[0]
    assert flags & 0x8000  # an answer
    assert (questions, answers) == (1, 1)
    assert answered[_HEADER.size :].startswith(asked[_HEADER.size :])
    assert socket.inet_ntoa(answered[-4:]) == "127.0.0.1"


def test_a_question_with_additional_records_is_answered_too():
    asked = question("example.org") + b"\0\0\x29\x10\0\0\0\0\0\0\0"  # EDNS, as glibc sends it
    answered = stage.answer(asked)
    assert answered[_HEADER.size :].startswith(question("example.org")[_HEADER.size :])
    assert socket.inet_ntoa(answered[-4:]) == "127.0.0.1"


def test_the_stage_refuses_to_touch_the_mounts_of_the_machine(tmp_path):
    outside = str(Path("/proc/self/ns/mnt").readlink())
    marker = tmp_path / "ran"
    words = [sys.executable, "-P", "-m", "agent.stage", "--outside", outside]
    done = subprocess.run(
        [*words, "--", "touch", str(marker)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "mount namespace" in done.stderr
    assert not marker.exists()
