# SPDX-License-Identifier: Apache-2.0
"""An open of what a rule may be about gives nothing before the answer: bpf/before.h."""

from __future__ import annotations

import array
import mmap
import os
import socket
import struct
from pathlib import Path

import pytest
from calls import CWD, opening
from laboratory import Puppet, until
from questions import HELD_AFTER, KEPT, answer, asked, files_of, forbidden, happened, let
from states import state_of

from monitor.capture.kernel import KernelSettings
from monitor.events import Access, Opened, Verdict
from monitor.response.holds import Answer

pytestmark = pytest.mark.tier("lsm")


# Opens ------------------------------------------------------------------------------------------


def test_an_open_waits_and_happens_when_it_is_let(inside, puppet, holds, secret):
    event = asked(inside, puppet, *opening(puppet, secret))
    assert (event.file.path.text, event.access) == (str(secret), Access.READ)
    assert str(secret) not in files_of(puppet.pid)
    assert holds.waiting(inside.slot) == 1
    fd = let(holds, inside, puppet, event)
    assert holds.waiting(inside.slot) == 0
    assert happened(inside, Opened).file == event.file
    assert puppet("pread64", fd, puppet.place(b"." * 64), 64, 0) == len(KEPT)
    assert not inside.events(Opened)  # it was judged when it was opened


def test_an_open_that_is_forbidden_fails_once_and_the_next_is_asked(inside, puppet, holds, secret):
    call = opening(puppet, secret, os.O_WRONLY | os.O_TRUNC)
    forbidden(holds, inside, puppet, asked(inside, puppet, *call))
    assert secret.read_bytes() == KEPT
    assert all(Verdict.BEFORE in e.verdict for e in inside.events(Opened))
    forbidden(holds, inside, puppet, asked(inside, puppet, *call))
    assert let(holds, inside, puppet, asked(inside, puppet, *call)) >= 0
    assert secret.read_bytes() == b""


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDWR | os.O_EXCL])
def test_a_file_is_not_made_before_the_answer(inside, puppet, holds, scratch, watch, flags):
    absent = scratch / "absent"
    watch(absent)
    call = opening(puppet, absent, os.O_CREAT | flags)
    event = asked(inside, puppet, *call)
    assert Access.CREATED in event.access
    assert not absent.exists()
    forbidden(holds, inside, puppet, event)
    assert not absent.exists()
    assert let(holds, inside, puppet, asked(inside, puppet, *call)) >= 0
    event = happened(inside, Opened)
    assert (Access.CREATED in event.access, event.file.inode) == (True, absent.stat().st_ino)


def test_a_hard_link_and_a_bind_mount_are_asked_as_the_same_file(
    inside, holds, secret, scratch, lab, watch
):
    alias, link = scratch / "alias", scratch / "link"
    alias.mkdir()
    link.hardlink_to(secret)
    watch(secret)
    script = f"mount --bind {secret.parent} {alias} && exec {lab.program('puppet')}"
    view = ("--mount", "--propagation", "private", "sh", "-c", script)
    other = Puppet(inside.ready("/usr/bin/unshare", *view))
    for path in (link, alias / "secret"):
        forbidden(holds, inside, other, asked(inside, other, *opening(other, path)))


def test_the_answer_is_for_one_object_and_one_act(inside, puppet, holds, secret, watch):
    watch(secret, secret.parent / "other")
    place = puppet.place(os.fsencode(secret))
    event = asked(inside, puppet, "openat", CWD, place, os.O_RDONLY)
    # What another process could do to memory that it shares: the same call is about another file.
    with Path(f"/proc/{puppet.pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(place)
        memory.write(os.fsencode(secret.parent / "other") + b"\0")
    inside.forget_events()
    answer(holds, inside, event, Answer.LET)
    event = inside.wait(Opened, lambda e: e.verdict)
    assert event.file.path.text == str(secret.parent / "other")
    # A second object in the same call cannot be told from this: it is held when it has happened.
    assert event.verdict == HELD_AFTER
    assert until(lambda: state_of(puppet.pid) == "T")
    answer(holds, inside, event, Answer.LET)
    assert puppet.answer() >= 0


# Descriptors ------------------------------------------------------------------------------------


def test_an_inherited_descriptor_gives_nothing_before_the_answer(inside, holds, secret):
    fd = os.open(secret, os.O_RDWR)
    puppet = Puppet(inside.ready("puppet", pass_fds=(fd,)))
    os.close(fd)
    room = puppet.place(b"." * 64)
    call = ("pread64", fd, room, 64, 0)
    event = asked(inside, puppet, *call)
    forbidden(holds, inside, puppet, event)
    assert puppet.memory(room, 64) == b"." * 64
    forbidden(
        holds, inside, puppet, asked(inside, puppet, "pwrite64", fd, puppet.place(b"x"), 1, 0)
    )
    forbidden(
        holds,
        inside,
        puppet,
        asked(inside, puppet, "mmap", 0, 4096, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0),
    )
    assert secret.read_bytes() == KEPT
    assert let(holds, inside, puppet, asked(inside, puppet, *call)) == len(KEPT)
    assert puppet.memory(room, len(KEPT)) == KEPT
    assert happened(inside, Opened).file.path.text == str(secret)
    assert puppet(*call) == len(KEPT)
    assert not inside.events(Opened)


def test_a_mapping_waits(inside, holds, secret):
    fd = os.open(secret, os.O_RDONLY)
    puppet = Puppet(inside.ready("puppet", pass_fds=(fd,)))
    os.close(fd)
    call = ("mmap", 0, 4096, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0)
    at = let(holds, inside, puppet, asked(inside, puppet, *call))
    assert puppet.memory(at, len(KEPT)) == KEPT


def test_a_descriptor_that_was_sent_is_held_when_it_has_come(inside, holds, secret):
    ours, theirs = socket.socketpair()
    puppet = Puppet(inside.ready("puppet", pass_fds=(theirs.fileno(),)))
    inside.forget_events()
    with secret.open("rb") as file:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))]
        ours.sendmsg([b"x"], rights)
    data, control = puppet.place(b"." * 8), puppet.place(bytes(64))
    vector = puppet.place(struct.pack("QQ", data, 8))
    message = puppet.place(struct.pack("QQQQQQQ", 0, 0, vector, 1, control, 64, 0))
    puppet.become("recvmsg", theirs.fileno(), message, 0)
    event = inside.wait(Opened, lambda e: e.verdict)
    assert event.verdict == HELD_AFTER
    answer(holds, inside, event, Answer.LET)
    assert puppet.answer() == 1
    ours.close()
    theirs.close()


# What cannot start anew -------------------------------------------------------------------------


def test_io_uring_does_not_wait_and_no_completion_holds_the_kernels_word(
    inside, holds, secret, kernel
):
    kernel.refuse_operations(())
    try:
        process = inside.start("uring_open", str(secret), "inline")
        event = inside.wait(Opened, lambda e: e.verdict)
        assert Verdict.BEFORE not in event.verdict
        answer(holds, inside, event, Answer.LET)
        assert int(inside.said(process)) >= 0
    finally:
        kernel.refuse_operations(KernelSettings.refused_operations)
