# SPDX-License-Identifier: Apache-2.0
"""A candidate connection reaches its destination, and nothing is sent on it before the answer."""

from __future__ import annotations

import socket

import pytest
from held import go_on
from laboratory import until
from states import state_of
from wires import address, connect, listener

from monitor.events import Connected, Verdict
from monitor.lowered import Lowered, NetworkWatch


def test_a_certain_destination_is_refused_and_asked_about(inside, puppet, verdicts, holds):
    verdicts.replace(Lowered(networks=(NetworkWatch("127.9.0.0/16", (443, 8443), certain=True),)))
    with listener("127.9.1.1") as there:
        free = connect(puppet, address("127.9.1.1", there.getsockname()[1]))
    assert free >= 0
    with pytest.raises(PermissionError):
        connect(puppet, address("127.9.1.1", 8443))
    event = inside.wait(Connected, lambda e: e.port == 8443)
    assert event.verdict == Verdict.CANDIDATE | Verdict.CERTAIN | Verdict.REFUSED
    assert holds.waiting(inside.slot) == 1
    with listener("127.0.0.1") as there, pytest.raises(PermissionError):
        connect(puppet, address("127.0.0.1", there.getsockname()[1]))
    holds.answer(inside.slot)
    with listener("127.0.0.1") as there:
        connect(puppet, address("127.0.0.1", there.getsockname()[1]))


def test_what_a_session_contacts_is_held_once_it_has_touched_a_secret(
    inside, puppet, kernel, verdicts, holds
):
    verdicts.replace(Lowered(taint_connects=frozenset({"r"})))
    with listener("127.0.0.1") as there:
        where = address("127.0.0.1", there.getsockname()[1])
        connect(puppet, where)
        assert inside.wait(Connected).verdict == Verdict.PASS
        kernel.taint(inside.slot)
        fd = puppet("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
        puppet.become("connect", fd, puppet.place(where), len(where))
        event = inside.wait(Connected, lambda e: e.verdict & Verdict.CANDIDATE)
        assert event.verdict == Verdict.CANDIDATE
        assert until(lambda: state_of(puppet.pid) == "T")  # connected, and not back from the call
        there.accept()[0].close()
        assert go_on(holds, inside, puppet) == 0
        verdicts.replace(Lowered())  # no rule asks for it any more
        connect(puppet, where)
    assert holds.waiting(inside.slot) == 0


def test_who_does_not_wait_for_his_connection_sends_nothing_before_the_answer(
    inside, puppet, kernel, verdicts, holds
):
    verdicts.replace(Lowered(taint_connects=frozenset({"r"})))
    kernel.taint(inside.slot)
    with listener("127.0.0.1") as there:
        where = address("127.0.0.1", there.getsockname()[1])
        fd = puppet("socket", socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
        with pytest.raises(BlockingIOError):
            puppet("connect", fd, puppet.place(where), len(where))
        inside.wait(Connected, lambda e: e.verdict == Verdict.CANDIDATE)
        peer, _ = there.accept()  # the handshake passes, so that a release loses no second
        with peer:
            assert puppet("sendto", fd, puppet.place(b"secret"), 6, 0, 0, 0) == 6
            peer.settimeout(0.3)
            with pytest.raises(TimeoutError):
                peer.recv(6)
            holds.answer(inside.slot)
            peer.settimeout(5)
            assert peer.recv(6) == b"secret"
