# SPDX-License-Identifier: Apache-2.0
"""What ends the monitor's sleep, and what may wait until more of it has come."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager

import pytest

from monitor.capture import records

CWD = -100
GATHERING_S = 0.5


@pytest.fixture(autouse=True)
def long(monkeypatch):
    """So long that no busy machine is taken for it."""
    monkeypatch.setattr(records, "_GATHER_S", GATHERING_S)


def make(puppet, path):
    puppet("openat", CWD, os.fsencode(path), os.O_CREAT | os.O_WRONLY, 0o600)


def waited_s(kernel):
    start = time.monotonic()
    kernel.records.wait(10_000)
    return time.monotonic() - start


@pytest.fixture
def at_work(kernel, puppet, scratch):
    """The session has just done something, which was read."""
    make(puppet, scratch / "before")
    assert kernel.records.read(0)
    kernel.records.commit()


@contextmanager
def bell(kernel):
    number = os.eventfd(0)
    kernel.records.wake_on(number)
    try:
        yield number
    finally:
        os.close(number)


def test_the_first_record_after_a_silence_ends_the_sleep_at_once(kernel, puppet, scratch):
    make(puppet, scratch / "first")
    assert waited_s(kernel) < GATHERING_S / 2


@pytest.mark.usefixtures("at_work")
def test_ordinary_records_come_together(kernel, puppet, scratch):
    make(puppet, scratch / "next")
    assert waited_s(kernel) >= GATHERING_S


@pytest.mark.usefixtures("at_work")
def test_an_alarm_waits_for_nobody(kernel, puppet):
    puppet("memfd_create", b"alarm", 0)
    assert waited_s(kernel) < GATHERING_S / 2


@pytest.mark.usefixtures("at_work")
def test_a_question_waits_for_nobody(kernel):
    with bell(kernel) as number:
        os.eventfd_write(number, 1)
        assert waited_s(kernel) < GATHERING_S / 2


@pytest.mark.usefixtures("at_work")
def test_what_is_held_back_is_looked_for_and_not_gathered(kernel, puppet, scratch):
    make(puppet, scratch / "kept")
    kernel.records.read(0)  # and not committed
    make(puppet, scratch / "next")
    assert waited_s(kernel) < GATHERING_S / 2
    kernel.records.commit()


def test_a_flood_of_calls_that_are_always_told_is_a_flood(kernel, puppet):
    kernel.records.read(0)
    assert not kernel.records.flooded
    for _ in range(3000):
        puppet("setuid", 0)
    kernel.records.read(0)
    assert kernel.records.flooded
