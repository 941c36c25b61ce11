# SPDX-License-Identifier: Apache-2.0
"""On the lsm tier what a rule may be about waits for the answer before it happens: bpf/before.h."""

from __future__ import annotations

import array
import mmap
import os
import signal
import socket
import struct
import time
from pathlib import Path

import pytest
from laboratory import Puppet, until

from monitor.capture.kernel import KernelSettings
from monitor.events import (
    Access,
    Linked,
    ModeChanged,
    Opened,
    Renamed,
    Symlinked,
    Truncated,
    Unlinked,
    Verdict,
)
from monitor.lowered import Act, Lowered, Watch, Where
from monitor.response.holds import Answer, Holds
from monitor.response.verdicts import Verdicts

pytestmark = pytest.mark.tier("lsm")

CWD = -100
ASKED = Verdict.CANDIDATE | Verdict.STOPPED | Verdict.BEFORE
HELD_AFTER = Verdict.CANDIDATE | Verdict.STOPPED
EVERY_ACT = Act((1 << 14) - 1)
KEPT = b"key = secret\n"


@pytest.fixture
def watch(kernel):
    """Watch paths: a rule may be about them, and is certain about nothing."""
    verdicts = Verdicts(kernel)

    def watch(*paths, hold=EVERY_ACT):
        watches = tuple(Watch(Where.EXACT, str(p), Act(hold), Act.NOTHING) for p in paths)
        verdicts.replace(Lowered(watches=watches))
        there = [p for p in paths if p.exists()]
        verdicts.follow({str(p): {(p.stat().st_dev, p.stat().st_ino)} for p in there})

    yield watch
    verdicts.replace(Lowered())
    verdicts.follow({})


@pytest.fixture
def secret(scratch, watch):
    """A file that stands for credentials, and one beside it that nobody watches."""
    home = scratch / "home"
    home.mkdir()
    (home / "secret").write_bytes(KEPT)
    (home / "other").write_bytes(b"mine\n")
    watch(home / "secret")
    return home / "secret"


@pytest.fixture
def holds(kernel):
    return Holds(kernel)


def opening(puppet, path, flags=os.O_RDONLY):
    return ("openat", CWD, puppet.place(os.fsencode(path)), flags, 0o600)


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def asked(inside, puppet, *call, kind=Opened):
    """Make a call that waits; its question, once the process stands still."""
    inside.forget_events()
    puppet.become(*call)
    event = inside.wait(kind, lambda e: e.verdict)
    assert until(lambda: state_of(puppet.pid) == "T")
    assert event.verdict == ASKED
    return event


def answer(holds, inside, event, word):
    """Let it happen or forbid it, and continue the process."""
    holds.decide(event.tid, event.held_ns, word)
    holds.answer(inside.slot)
    holds.forget(event.tgid)
    os.kill(event.tgid, signal.SIGCONT)


def let(holds, inside, puppet, event):
    answer(holds, inside, event, Answer.LET)
    return puppet.answer()


def forbidden(holds, inside, puppet, event):
    answer(holds, inside, event, Answer.FORBID)
    with pytest.raises(PermissionError):
        puppet.answer()


def files_of(pid):
    return {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


def happened(inside, kind):
    """The event of what was let through; there is exactly one, and nobody was held for it."""
    (event,) = (e for e in inside.events(kind) if Verdict.BEFORE not in e.verdict)
    assert event.verdict == Verdict.PASS
    return event


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


# Who continues it -------------------------------------------------------------------------------


def test_without_an_answer_it_waits_on_and_asks_no_second_time(inside, puppet, holds, secret):
    event = asked(inside, puppet, *opening(puppet, secret))
    inside.forget_events()
    for _ in range(3):
        os.kill(puppet.pid, signal.SIGCONT)
        time.sleep(0.1)
        assert until(lambda: state_of(puppet.pid) == "T")
    assert not inside.events(Opened)
    assert holds.waiting(inside.slot) == 1
    assert str(secret) not in files_of(puppet.pid)
    assert let(holds, inside, puppet, event) >= 0


def test_an_answer_that_was_lost_is_asked_for_again(inside, puppet, kernel, holds, secret):
    event = asked(inside, puppet, *opening(puppet, secret))
    assert kernel.map("questions").delete(event.tid)
    inside.forget_events()
    answer(holds, inside, event, Answer.LET)
    again = inside.wait(Opened, lambda e: e.verdict)
    assert again.verdict == ASKED
    assert until(lambda: state_of(puppet.pid) == "T")
    assert let(holds, inside, puppet, again) >= 0


def test_a_question_ends_with_its_thread(inside, puppet, kernel, secret):
    event = asked(inside, puppet, *opening(puppet, secret))
    assert kernel.map("questions").get(event.tid) is not None
    os.kill(puppet.pid, signal.SIGKILL)
    assert until(lambda: kernel.map("questions").get(event.tid) is None)


def test_a_stop_means_that_it_never_happened_and_a_resume_says_so_once(
    inside, puppet, holds, killswitch, secret
):
    call = opening(puppet, secret, os.O_WRONLY | os.O_TRUNC)
    event = asked(inside, puppet, *call)
    holds.decide(event.tid, event.held_ns, Answer.FORBID)
    assert killswitch.freeze(inside).done
    killswitch.release(inside, puppet.pid)  # as for every candidate: to no effect
    holds.answer(inside.slot)
    assert state_of(puppet.pid) == "T"
    assert secret.read_bytes() == KEPT
    assert killswitch.resume(inside).done
    with pytest.raises(PermissionError):
        puppet.answer()
    assert secret.read_bytes() == KEPT
    assert let(holds, inside, puppet, asked(inside, puppet, *call)) >= 0


# Threads and signals ----------------------------------------------------------------------------


def go(process):
    process.stdin.write(b"\n")
    process.stdin.flush()


@pytest.mark.parametrize("word", [Answer.LET, Answer.FORBID])
def test_of_many_threads_each_is_answered(inside, holds, secret, word):
    process = inside.ready("openers", str(secret), "4")
    inside.forget_events()
    go(process)
    told = set()
    while len(told) < 4:
        event = inside.wait(Opened, lambda e: e.verdict and e.tid not in told)
        assert event.verdict == ASKED
        told.add(event.tid)
        answer(holds, inside, event, word)
    # Who was stopped by another's signal between two answers: the housekeeper's part in a monitor.
    assert until(lambda: not continue_all(holds, inside) and process.poll() is not None)
    expected = 0 if word is Answer.LET else 1
    assert inside.said(process) == f"{expected} {expected} {expected} {expected} 0\n".encode()
    assert holds.waiting(inside.slot) == 0


def continue_all(holds, inside):
    stopped = list(holds.stopped(inside.slot))
    for hold in stopped:
        holds.forget(hold.pid)
        os.kill(hold.pid, signal.SIGCONT)
    return stopped


@pytest.mark.parametrize("blocked", [(), ("block",)])
def test_a_handler_that_ran_meanwhile_ends_no_call(inside, holds, secret, blocked):
    process = inside.ready("openers", str(secret), "1", *blocked)
    inside.forget_events()
    go(process)
    event = inside.wait(Opened, lambda e: e.verdict)
    assert event.verdict == ASKED
    assert until(lambda: state_of(process.pid) == "T")
    os.kill(process.pid, signal.SIGUSR1)
    answer(holds, inside, event, Answer.LET)
    assert inside.said(process) == b"0 1\n"


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


# Names ------------------------------------------------------------------------------------------

_NAMED = [
    (Renamed, ("rename", "secret", "gone")),
    (Renamed, ("rename", "other", "secret")),
    (Renamed, ("renameat2", CWD, "other", CWD, "secret", 2)),
    (Linked, ("link", "secret", "alias")),
    (Unlinked, ("unlink", "secret")),
    (Truncated, ("truncate", "secret", 0)),
    (ModeChanged, ("chmod", "secret", 0o4755)),
]


def seen(directory):
    """All that a call on names could have changed."""
    return {
        name: ((directory / name).read_bytes(), (directory / name).stat().st_mode)
        for name in sorted(os.listdir(directory))
    }


@pytest.mark.parametrize(("kind", "call"), _NAMED)
def test_names_wait_and_change_when_it_is_let(inside, puppet, holds, secret, kind, call):
    puppet("chdir", puppet.place(os.fsencode(secret.parent)))
    words = [w if isinstance(w, int) else puppet.place(os.fsencode(w)) for w in call[1:]]
    before = seen(secret.parent)
    event = asked(inside, puppet, call[0], *words, kind=kind)
    assert seen(secret.parent) == before
    forbidden(holds, inside, puppet, event)
    assert seen(secret.parent) == before
    event = asked(inside, puppet, call[0], *words, kind=kind)
    assert let(holds, inside, puppet, event) == 0
    assert seen(secret.parent) != before
    happened(inside, kind)


def test_a_name_that_shall_stay_free_waits(inside, puppet, holds, scratch, watch):
    watch(scratch / "absent")
    words = [puppet.place(b"/etc"), puppet.place(os.fsencode(scratch / "absent"))]
    event = asked(inside, puppet, "symlink", *words, kind=Symlinked)
    assert not (scratch / "absent").is_symlink()
    assert let(holds, inside, puppet, event) == 0
    happened(inside, Symlinked)


def test_what_follows_an_answered_call_is_asked(inside, puppet, holds, secret):
    """The word that the hook leaves for the sensor behind it is for that call only."""
    path = puppet.place(os.fsencode(secret))
    assert let(holds, inside, puppet, asked(inside, puppet, "unlink", path, kind=Unlinked)) == 0
    secret.write_bytes(KEPT)
    event = asked(inside, puppet, "unlink", path, kind=Unlinked)
    forbidden(holds, inside, puppet, event)
    assert secret.read_bytes() == KEPT


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
