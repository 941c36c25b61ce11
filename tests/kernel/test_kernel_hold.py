# SPDX-License-Identifier: Apache-2.0
"""Candidates are held: the process stops before it returns, the network is cut, others go on."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
import threading
from pathlib import Path

import pytest
from laboratory import Laboratory, Puppet, until
from wires import address, connect, listener

from monitor.capture import wire
from monitor.capture.kernel import load
from monitor.events import (
    Connected,
    Executed,
    Linked,
    ModeChanged,
    Opened,
    Privileged,
    Renamed,
    Symlinked,
    Truncated,
    UnixConnected,
    Unlinked,
    Verdict,
)
from monitor.lowered import Act, Lowered, NetworkWatch, SocketWatch, Watch, Where
from monitor.response.holds import Answer, Holds, Reason
from monitor.response.verdicts import Verdicts
from monitor.sessions import cgroups
from monitor.tier import Tier

CWD = -100


@pytest.fixture
def verdicts(kernel):
    """What the kernel looks for; nothing when the test is over."""
    made = Verdicts(kernel)
    yield made
    made.replace(Lowered())
    made.follow({})


@pytest.fixture
def holds(kernel):
    return Holds(kernel)


@pytest.fixture
def certainty_holds(kernel):
    """Elsewhere what is certain is refused: test_kernel_lsm.py."""
    if kernel.tier is not Tier.TRACEPOINT:
        pytest.skip("what is certain is refused here, not held")


def watching(verdicts, where, path, hold, certain=0, exempt=()):
    end = "/" if where is Where.BELOW else ""
    watch = Watch(where, f"{path}{end}", Act(hold), Act(certain), frozenset(exempt))
    verdicts.replace(Lowered(watches=(watch,)))


_PTRACE_SEIZE = 0x4206


def trace(pid):
    """Become its tracer, quietly."""
    assert ctypes.CDLL(None, use_errno=True).ptrace(_PTRACE_SEIZE, pid, 0, 0) == 0


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def held_by(inside, puppet, *call, kind=Opened):
    """Make a call that should be held; the event, once the process stands still."""
    puppet.become(*call)
    event = inside.wait(kind, lambda e: e.verdict & Verdict.STOPPED)
    assert until(lambda: state_of(puppet.pid) == "T")
    return event


def go_on(holds, inside, puppet):
    """What an answer is to the kernel and to the process; its result."""
    holds.decide_all(inside.slot, Answer.LET)  # where it was asked before: test_kernel_before.py
    holds.answer(inside.slot)
    holds.forget(puppet.pid)
    os.kill(puppet.pid, signal.SIGCONT)
    return puppet.answer()


def opening(puppet, path, flags=os.O_RDONLY):
    return ("openat", CWD, puppet.place(os.fsencode(path)), flags, 0o600)


# Files ------------------------------------------------------------------------------------------


def test_an_open_of_a_watched_path_stops_the_process_before_it_returns(
    inside, puppet, verdicts, holds, scratch
):
    secret = scratch / "secret"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ)
    event = held_by(inside, puppet, *opening(puppet, secret))
    assert event.verdict & ~Verdict.BEFORE == Verdict.CANDIDATE | Verdict.STOPPED
    assert 0 <= event.held_ns - event.ktime_ns < 5_000_000
    stopped = [(h.pid, h.reason) for h in holds.stopped(inside.slot)]
    assert stopped == [(puppet.pid, Reason.CANDIDATE)]
    assert holds.waiting(inside.slot) == 1
    assert go_on(holds, inside, puppet) >= 0
    assert holds.waiting(inside.slot) == 0
    assert not list(holds.stopped(inside.slot))


@pytest.mark.parametrize(
    ("where", "watched"),
    [
        (Where.ENDING, "/.aws/credentials"),
        (Where.ENDING, "/credentials"),
        (Where.BELOW, "{scratch}/home"),
        (Where.BELOW, "{scratch}"),
    ],
)
@pytest.mark.usefixtures("certainty_holds")
def test_a_file_is_found_by_its_last_names_and_by_every_directory_above(
    inside, puppet, verdicts, holds, scratch, where, watched
):
    secret = scratch / "home" / ".aws" / "credentials"
    secret.parent.mkdir(parents=True)
    secret.write_text("x")
    watching(verdicts, where, watched.format(scratch=scratch), Act.READ, Act.READ)
    event = held_by(inside, puppet, *opening(puppet, secret))
    assert event.verdict & Verdict.CERTAIN
    go_on(holds, inside, puppet)


@pytest.mark.parametrize(
    ("where", "watched"),
    [
        (Where.ENDING, "/aws/credentials"),
        (Where.ENDING, "/xcredentials"),
        (Where.EXACT, "/credentials"),
        (Where.EXACT, "{scratch}/home/.aws/credentials/x"),
        (Where.EXACT, "{scratch}/home"),
        (Where.BELOW, "{scratch}/hom"),
        (Where.BELOW, "{scratch}/home/.aws/credentials"),
        (Where.BELOW, "/home/.aws"),
    ],
)
def test_names_are_compared_whole(inside, puppet, verdicts, scratch, where, watched):
    secret = scratch / "home" / ".aws" / "credentials"
    secret.parent.mkdir(parents=True)
    secret.write_text("x")
    watching(verdicts, where, watched.format(scratch=scratch), Act.READ)
    puppet(*opening(puppet, secret))
    assert inside.wait(Opened).verdict == Verdict.PASS


def test_only_the_watched_act_is_held(inside, puppet, verdicts, holds, scratch):
    file = scratch / "hosts"
    file.write_text("x")
    watching(verdicts, Where.EXACT, file, Act.WRITE)
    puppet(*opening(puppet, file))
    assert inside.wait(Opened).verdict == Verdict.PASS
    inside.forget_events()
    held_by(inside, puppet, *opening(puppet, file, os.O_WRONLY))
    go_on(holds, inside, puppet)


def test_a_hard_link_and_a_new_file_are_found_by_inode_and_by_directory(
    inside, puppet, verdicts, holds, scratch, lab
):
    file, link = scratch / "hosts", scratch / "link"
    file.write_text("x")
    link.hardlink_to(file)
    verdicts.replace(Lowered(watches=(Watch(Where.EXACT, str(file), Act.WRITE, Act(0)),)))
    found = file.stat()
    verdicts.follow({str(file): {(found.st_dev, found.st_ino)}})
    held_by(inside, puppet, *opening(puppet, link, os.O_WRONLY))
    go_on(holds, inside, puppet)
    inside.forget_events()
    file.unlink()
    alias = scratch / "alias"
    alias.mkdir()
    script = f"mount --bind {scratch} {alias} && exec {lab.program('puppet')}"
    view = ("--mount", "--propagation", "private", "sh", "-c", script)
    other = Puppet(inside.ready("/usr/bin/unshare", *view))
    held_by(inside, other, *opening(other, alias / "hosts", os.O_CREAT | os.O_WRONLY))
    go_on(holds, inside, other)


@pytest.mark.parametrize(
    ("act", "call"),
    [
        (Act.RENAME_TO, ("rename", "other", "hosts")),
        (Act.RENAME_FROM, ("rename", "hosts", "other")),
        (Act.DELETE, ("unlink", "hosts")),
        (Act.LINK_TO, ("link", "other", "new/hosts")),
        (Act.LINK_FROM, ("link", "hosts", "new/name")),
        (Act.SYMLINK, ("symlink", "other", "new/hosts")),
        (Act.TRUNCATE, ("truncate", "hosts", 0)),
        (Act.CHMOD, ("chmod", "hosts", 0o4755)),
    ],
)
def test_names_that_a_call_spells_are_held_by_their_last_parts(
    inside, puppet, verdicts, holds, scratch, act, call
):
    etc = scratch / "etc"
    (etc / "new").mkdir(parents=True)
    (etc / "hosts").write_text("x")
    (etc / "other").write_text("y")
    parent = "new" if "new/hosts" in call else "etc"
    watching(verdicts, Where.ENDING, f"/{parent}/hosts", act)
    name, *arguments = call
    words = [a if isinstance(a, int) else puppet.place(os.fsencode(etc / a)) for a in arguments]
    if name == "symlink":
        words[0] = puppet.place(b"other")
    event = held_by(inside, puppet, name, *words, kind=Named[name])
    assert event.verdict & ~Verdict.BEFORE == Verdict.CANDIDATE | Verdict.STOPPED
    assert go_on(holds, inside, puppet) == 0


Named = {
    "rename": Renamed,
    "unlink": Unlinked,
    "link": Linked,
    "symlink": Symlinked,
    "truncate": Truncated,
    "chmod": ModeChanged,
}


def test_a_name_of_another_directory_is_not_held(inside, puppet, verdicts, scratch):
    git = scratch / ".git"
    git.mkdir()
    (git / "config.lock").write_text("x")
    watching(verdicts, Where.ENDING, "/.kube/config", Act.RENAME_TO)
    puppet("rename", *(puppet.place(os.fsencode(git / n)) for n in ("config.lock", "config")))
    assert inside.wait(Renamed).verdict == Verdict.PASS


def test_a_relative_name_is_judged_with_the_directory_it_starts_at(
    inside, puppet, verdicts, holds, scratch
):
    kube = scratch / ".kube"
    kube.mkdir()
    (kube / "new").write_text("x")
    watching(verdicts, Where.ENDING, "/.kube/config", Act.RENAME_TO)
    puppet("chdir", puppet.place(os.fsencode(kube)))
    names = (puppet.place(b"new"), puppet.place(b"config"))
    held_by(inside, puppet, "rename", *names, kind=Renamed)
    go_on(holds, inside, puppet)


def test_a_directory_above_a_watched_file_is_held_when_it_is_renamed(
    inside, puppet, verdicts, holds, scratch
):
    above = scratch / "above"
    (above / "etc").mkdir(parents=True)
    watching(verdicts, Where.EXACT, above / "etc" / "hosts", Act.WRITE)
    names = [puppet.place(os.fsencode(path)) for path in (above, scratch / "gone")]
    held_by(inside, puppet, "rename", *names, kind=Renamed)
    go_on(holds, inside, puppet)


@pytest.mark.usefixtures("certainty_holds")
def test_a_program_is_held_before_its_first_instruction(inside, verdicts, holds, lab):
    image = lab.program("puppet")
    watching(verdicts, Where.EXACT, Path(image).resolve(), Act.EXEC, Act.EXEC)
    process = inside.start("puppet")
    event = inside.wait(Executed, lambda e: e.verdict)
    assert event.verdict == Verdict.CANDIDATE | Verdict.CERTAIN | Verdict.STOPPED
    assert until(lambda: state_of(process.pid) == "T")
    assert not select.select([process.stdout], [], [], 0.05)[0]
    holds.answer(inside.slot)
    os.kill(process.pid, signal.SIGCONT)
    assert inside.said(process) == b"ready\n"


@pytest.mark.usefixtures("certainty_holds")
def test_a_program_that_the_rule_forgives_is_not_held(inside, verdicts, lab, scratch, holds):
    secret = scratch / "secret"
    secret.write_text("x")
    puppet = inside.puppet()
    watching(verdicts, Where.EXACT, secret, Act.READ, Act.READ, [lab.program("puppet")])
    puppet(*opening(puppet, secret))
    assert inside.wait(Opened).verdict == Verdict.PASS
    secret = scratch / "other"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ, Act.READ, [lab.program("enter")])
    other = inside.puppet()
    held_by(inside, other, *opening(other, secret))
    go_on(holds, inside, other)


@pytest.mark.usefixtures("certainty_holds")
def test_what_one_rule_forgives_and_another_does_not_is_held_and_not_certain(
    inside, verdicts, lab, scratch, holds
):
    secret = scratch / "secret"
    secret.write_text("x")
    puppet = inside.puppet()
    verdicts.replace(
        Lowered(
            watches=(
                Watch(Where.EXACT, str(secret), Act.READ, Act.READ, frozenset({puppet.image})),
                Watch(Where.ENDING, "/secret", Act.READ, Act.READ),
            )
        )
    )
    event = held_by(inside, puppet, *opening(puppet, secret))
    assert not event.verdict & Verdict.CERTAIN
    go_on(holds, inside, puppet)


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


# Network ----------------------------------------------------------------------------------------


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


def test_who_is_answered_before_he_is_back_from_the_call_is_not_stopped(
    inside, puppet, kernel, verdicts, holds
):
    """The answer is a race that the process must win every time."""
    verdicts.replace(Lowered(taint_connects=frozenset({"r"})))
    kernel.taint(inside.slot)
    done = threading.Event()

    def answer():
        while not done.is_set():
            if holds.waiting(inside.slot):
                holds.answer(inside.slot)
                if holds.is_stopped(puppet.pid):
                    holds.forget(puppet.pid)
                    os.kill(puppet.pid, signal.SIGCONT)

    answering = threading.Thread(target=answer)
    answering.start()
    try:
        with listener("127.0.0.1") as there:
            for _ in range(300):
                fd = connect(puppet, address("127.0.0.1", there.getsockname()[1]))
                puppet("close", fd)
                there.accept()[0].close()
    finally:
        done.set()
        answering.join()
    assert not holds.is_stopped(puppet.pid)


# Who is not held --------------------------------------------------------------------------------


def test_nobody_is_stopped_whose_parent_or_tracer_would_notice(
    inside, verdicts, holds, scratch, lab
):
    secret = scratch / "secret"
    secret.write_text("x")
    job = Puppet(inside.ready("puppet", process_group=0))
    handles = inside.puppet()
    action = struct.pack("QQQQ", 0x400000, 0x04000000, 0x400000, 0)
    handles("rt_sigaction", signal.SIGCONT, handles.place(action), 0, 8)
    traced = inside.puppet()
    trace(traced.pid)
    watching(verdicts, Where.EXACT, secret, Act.READ)
    for puppet in (job, handles, traced):
        assert puppet(*opening(puppet, secret)) >= 0
        event = inside.wait(Opened, lambda e, pid=puppet.pid: e.tgid == pid)
        assert event.verdict == Verdict.CANDIDATE
    assert holds.waiting(inside.slot) == 3


def test_observed_sessions_and_outsiders_are_never_held(lab, verdicts, scratch):
    secret = scratch / "secret"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ, Act.READ)
    with lab.session(watched=False) as outside:
        puppet = outside.puppet()
        assert puppet(*opening(puppet, secret)) >= 0
    with lab.session(watched=False) as inside:
        inside.watch(observed=True)
        puppet = inside.puppet()
        assert puppet(*opening(puppet, secret)) >= 0
        assert inside.wait(Opened).verdict == Verdict.PASS


def test_who_ends_while_it_is_held_is_forgotten(inside, puppet, verdicts, holds, scratch):
    secret = scratch / "secret"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ)
    held_by(inside, puppet, *opening(puppet, secret))
    puppet.process.kill()
    puppet.process.wait()
    assert not holds.is_stopped(puppet.pid)


def test_an_answer_stands_and_is_for_its_own_question(kernel, inside, holds):
    questions = kernel.map("questions")

    def asked(tid, ktime_ns):
        row = wire.QUESTION.packed.unpack(bytes(wire.QUESTION.size))
        questions.set((tid,), (inside.slot, *row[1:-3], ktime_ns, *row[-2:]))

    def answer_of(tid):
        return dict(zip((n for n, _ in wire.QUESTION.members), questions.get(tid), strict=True))[
            "answer"
        ]

    first, second, third = range(2**31 - 3, 2**31)  # no thread has such a number
    for tid in (first, second, third):
        asked(tid, 7)
    holds.decide(first, 7, Answer.FORBID)
    holds.decide(second, 8, Answer.LET)  # of an earlier question of the thread
    holds.decide_all(inside.slot + 1, Answer.LET)
    assert [answer_of(tid) for tid in (first, second, third)] == [Answer.FORBID, 0, 0]
    holds.decide_all(inside.slot, Answer.LET)
    assert [answer_of(tid) for tid in (first, second, third)] == [
        Answer.FORBID,
        Answer.LET,
        Answer.LET,
    ]
    kernel.forget(inside.slot)
    assert [questions.get(tid) for tid in (first, second, third)] == [None, None, None]


# The stop, without anybody asking ---------------------------------------------------------------


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


# Floods -----------------------------------------------------------------------------------------


def test_a_session_over_its_budget_is_counted_and_its_candidates_still_come(
    kernel_settings, tmp_path_factory, scratch
):
    with load(kernel_settings(opens_per_s=5)) as kernel:
        lab = Laboratory(kernel, cgroups.find_root(), tmp_path_factory.mktemp("programs"))
        verdicts = Verdicts(kernel)
        watching(verdicts, Where.EXACT, scratch / "secret", Act.CREATE)
        with lab.session() as inside:
            puppet = inside.puppet()
            for number in range(400):
                puppet(*opening(puppet, scratch / str(number), os.O_CREAT))
            assert kernel.lost()["budget"] >= 50
            assert kernel.lost()["open"] == 0
            held_by(inside, puppet, *opening(puppet, scratch / "secret", os.O_CREAT))
        lab.close()
