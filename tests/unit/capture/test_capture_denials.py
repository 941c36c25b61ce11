# SPDX-License-Identifier: Apache-2.0
"""What was refused is found by the next monitor, and nothing else is."""

from __future__ import annotations

import os

import pytest

from monitor.capture.denials import SLOTS, Denials
from monitor.capture.gatewords import Asked


@pytest.fixture
def file():
    fd = os.memfd_create("denials")
    yield fd
    os.close(fd)


def question(number: int, path: bytes = b"/etc/hosts") -> Asked:
    return Asked(
        number=number, ktime_ns=10**9 + number, slot=3, pid=7, tid=8, execute=False,
        device=1, inode=2, mode=0o100644, links=1, path=path, mount=5,
    )  # fmt: skip


def refuse(denials: Denials, number: int, access: int = 2) -> Asked:
    asked = question(number)
    denials.asked(asked)
    denials.understood(number, access)
    denials.refused(number)
    return asked


def test_what_was_refused_is_left_for_who_maps_the_file_next(file):
    asked = refuse(Denials(file), 1)
    assert Denials(file).left() == [(asked, 2)]


def test_what_was_only_asked_is_not_left(file):
    denials = Denials(file)
    denials.asked(question(1))
    denials.understood(1, 2)
    assert Denials(file).left() == []


def test_it_is_left_until_it_is_told(file):
    asked = refuse(Denials(file), 1)
    later = refuse(Denials(file), 2)
    assert Denials(file).left() == Denials(file).left()
    Denials(file).told([asked])
    assert Denials(file).left() == [(later, 2)]


def test_what_was_asked_since_in_the_same_slot_is_not_taken_for_told(file):
    earlier = refuse(Denials(file), 1)
    later = refuse(Denials(file), 1 + SLOTS)
    Denials(file).told([earlier])
    assert Denials(file).left() == [(later, 2)]


def test_the_latest_are_kept_oldest_first(file):
    denials = Denials(file)
    asked = [refuse(denials, number) for number in range(1, SLOTS + 10)]
    assert [found for found, _ in denials.left()] == asked[-SLOTS:]


def test_a_slot_that_is_used_again_is_not_refused_because_the_one_before_was(file):
    denials = Denials(file)
    refuse(denials, 1)
    denials.asked(question(1 + SLOTS))
    assert denials.left() == []


def test_a_path_of_the_longest_kind_fits(file):
    denials = Denials(file)
    asked = question(1, b"/" + b"a" * 4095)
    denials.asked(asked)
    denials.refused(1)
    assert denials.left() == [(asked, 0)]


@pytest.mark.parametrize("content", [b"", b"short", os.urandom(100_000)])
def test_a_file_of_something_else_is_made_anew(file, content):
    os.write(file, content)
    assert Denials(file).left() == []


def test_a_slot_that_nobody_understands_is_passed_over(file):
    denials = Denials(file)
    asked = refuse(denials, 2)
    denials.asked(question(1))
    denials.refused(1)
    start = 8192
    os.pwrite(file, b"\xc1" * 40, start + 16)
    assert denials.left() == [(asked, 2)]
