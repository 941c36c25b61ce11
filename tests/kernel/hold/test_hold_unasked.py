# SPDX-License-Identifier: Apache-2.0
"""Who runs although his session is stopped, or its monitor dead, stops at his next call."""

from __future__ import annotations

import os

import pytest
from calls import opening
from laboratory import until
from states import state_of
from wires import address, connect, listener

from monitor.response.holds import Reason


def test_a_task_that_runs_although_its_session_is_stopped_stops_at_its_next_call(
    inside, puppet, kernel, holds, scratch
):
    kernel.quarantine(inside.slot, on=True)
    puppet.become(*opening(puppet, scratch / "x", os.O_CREAT))
    assert until(lambda: state_of(puppet.pid) == "T")
    assert [h.reason for h in holds.stopped(inside.slot)] == [Reason.QUARANTINE]


@pytest.fixture
def silent(kernel):
    """The monitor's last sign of life is long ago."""
    cell = kernel.map("beat")
    cell.set((0,), (1,))
    yield
    cell.set((0,), (0,))


def test_a_session_whose_monitor_is_dead_stops_and_sends_nothing(
    lab, inside, puppet, holds, scratch, silent
):
    with listener("127.0.0.1") as there, pytest.raises(PermissionError):
        connect(puppet.stubborn(), address("127.0.0.1", there.getsockname()[1]))
    puppet.become(*opening(puppet, scratch / "x", os.O_CREAT))
    assert until(lambda: state_of(puppet.pid) == "T")
    assert [h.reason for h in holds.stopped(inside.slot)] == [Reason.SILENCE]
    with lab.session(watched=False) as outside:
        other = outside.puppet()
        assert other(*opening(other, scratch / "y", os.O_CREAT)) >= 0
    with lab.session(watched=False) as observed:
        observed.watch(observed=True)
        other = observed.puppet()
        assert other(*opening(other, scratch / "z", os.O_CREAT)) >= 0
