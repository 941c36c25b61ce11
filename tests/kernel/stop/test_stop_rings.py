# SPDX-License-Identifier: Apache-2.0
"""What the kernel does on its own for a session, it does not do after the stop."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest
from wires import listener

ARMED_MS = 250
AFTER_S = 0.6


def anything_comes(server, seconds):
    """Did anybody connect and send? A connection without a byte is told apart."""
    server.settimeout(seconds)
    try:
        accepted, _ = server.accept()
    except TimeoutError:
        return b""
    with accepted:
        accepted.settimeout(seconds)
        try:
            return accepted.recv(64)
        except (TimeoutError, ConnectionResetError):
            return b""


@contextmanager
def armed(inside, scratch, mode):
    """A chain in the kernel that will read a file, connect and send."""
    (scratch / "secret").write_bytes(b"0123456789abcdef")
    with listener() as server:
        port = str(server.getsockname()[1])
        process = inside.start("uring", mode, str(ARMED_MS), port, str(scratch / "secret"))
        if inside.said(process) != b"armed\n":
            assert process.wait() == 3, "the chain could not be armed"
            pytest.skip("io_uring is switched off here")
        yield server


@pytest.mark.parametrize("mode", ["plain", "sqpoll"])
def test_an_armed_chain_sends_where_nobody_stops_it(inside, scratch, mode):
    """Or the tests below would prove nothing."""
    with armed(inside, scratch, mode) as server:
        assert anything_comes(server, 3) == b"0123456789abcdef"


@pytest.mark.parametrize("verb", ["freeze", "kill"])
@pytest.mark.parametrize("mode", ["plain", "sqpoll"])
def test_an_armed_chain_sends_nothing_after_the_stop(inside, scratch, killswitch, mode, verb):
    with armed(inside, scratch, mode) as server:
        report = getattr(killswitch, verb)(inside)
        assert report.done, report.detail
        assert anything_comes(server, AFTER_S) == b""


@pytest.mark.parametrize("mode", ["plain", "sqpoll"])
def test_an_armed_chain_sends_nothing_when_a_freeze_is_followed_by_a_kill(
    inside, scratch, killswitch, mode
):
    with armed(inside, scratch, mode) as server:
        assert killswitch.freeze(inside).done
        time.sleep(ARMED_MS / 1000 / 2)
        assert killswitch.kill(inside).done
        assert anything_comes(server, AFTER_S) == b""
