# SPDX-License-Identifier: Apache-2.0
"""A stopped session begins nothing new: the call it wakes up in is refused."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest
from calls import opening
from laboratory import until
from states import state_of

from monitor.response.holds import Holds

pytestmark = pytest.mark.tier("lsm")


@contextmanager
def quarantined(kernel, inside):
    kernel.quarantine(inside.slot, on=True)
    try:
        yield
    finally:
        kernel.quarantine(inside.slot, on=False)


def test_a_stopped_session_begins_nothing_new(inside, puppet, kernel, scratch):
    with quarantined(kernel, inside):
        puppet.become(*opening(puppet, scratch / "x", os.O_CREAT | os.O_WRONLY))
        assert until(lambda: state_of(puppet.pid) == "T")
    Holds(kernel).forget(puppet.pid)
    os.kill(puppet.pid, signal.SIGCONT)
    with pytest.raises(PermissionError):
        puppet.answer()
    assert not (scratch / "x").exists()
