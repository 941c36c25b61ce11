# SPDX-License-Identifier: Apache-2.0
"""The stop: it stops whatever runs, sends nothing on, and will not touch what is not a session's."""

from __future__ import annotations

import ctypes
import os
import select
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from laboratory import until
from wires import address, connect, listener

from monitor.errors import GuardError
from monitor.response import killswitch as killswitch_module
from monitor.response.evidence import collect
from monitor.response.holds import Holds
from monitor.response.killswitch import KillSwitch
from monitor.sessions import cgroups

CWD = -100
ARMED_MS = 250
AFTER_S = 0.6


@dataclass
class Aim:
    """What the kill-switch is pointed at."""

    id: str
    slot: int
    cgroup: Path


def pid_of(file):
    """Whose /proc/PID/cgroup a descriptor is."""
    return int(Path(f"/proc/self/fd/{file}").readlink().parts[2])


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def says(cgroup):
    return (cgroup / "cgroup.events").read_text().split()


@pytest.mark.parametrize("restless", ["forks", "execs", "vforks", "traces"])
def test_a_freeze_is_confirmed_and_nothing_moves_any_more(inside, killswitch, restless):
    inside.ready("restless", restless)
    report = killswitch.freeze(inside)
    assert report.done, report.detail
    assert report.steps_ns["cut"] < report.steps_ns["frozen"]
    assert "frozen 1" in (inside.cgroup / "cgroup.events").read_text()
    assert killswitch.is_frozen(inside)
    inside.forget_events()
    time.sleep(0.03)
    assert inside.events() == []


@pytest.mark.parametrize("restless", ["forks", "execs", "vforks", "traces"])
def test_a_kill_leaves_nobody(inside, killswitch, restless):
    process = inside.ready("restless", restless)
    report = killswitch.kill(inside)
    assert report.done, report.detail
    assert list(report.steps_ns) == ["cut", "frozen", "killed", "empty"]
    assert says(inside.cgroup) == ["populated", "0", "frozen", "1"]
    assert killswitch.is_empty(inside)
    assert process.wait() == -9


def test_a_kill_reaches_cgroups_that_the_session_made_below_its_own(inside, lab, killswitch):
    below = inside.cgroup / "below"
    below.mkdir()
    with lab.session(watched=False) as outside:  # who is inside may be refused to go there
        process = outside.ready("enter", str(below), lab.program("family"), "children", "3")
        assert len(list(cgroups.members(below))) == 4
        assert killswitch.kill(inside).done
        process.wait()
    assert list(cgroups.members(inside.cgroup)) == []


def test_a_second_freeze_and_a_second_kill_change_nothing(inside, killswitch):
    inside.ready("family", "children", "1")
    assert killswitch.freeze(inside).done
    assert killswitch.freeze(inside).done
    assert killswitch.kill(inside).done
    assert killswitch.kill(inside).done


def test_a_kill_where_the_kernel_has_no_cgroup_kill_leaves_nobody(inside, killswitch, monkeypatch):
    write = killswitch_module._write

    def older(cgroup, name, value):
        if name == "cgroup.kill":
            raise FileNotFoundError(name)
        write(cgroup, name, value)

    monkeypatch.setattr(killswitch_module, "_write", older)
    process = inside.ready("restless", "forks", "1")
    assert killswitch.kill(inside).done
    assert process.wait() == -9


def test_the_stop_of_a_session_whose_cgroup_is_gone_is_done(lab, killswitch):
    aim = Aim("gone", 50, lab.empty_cgroup())
    aim.cgroup.rmdir()
    report = killswitch.kill(aim)
    assert report.done
    assert "empty" in report.steps_ns


def test_resume_lets_it_run_and_gives_the_network_back(inside, puppet, killswitch):
    with listener() as server:
        to = address("127.0.0.1", server.getsockname()[1])
        assert killswitch.freeze(inside).done
        puppet.become("getpid")  # answered only once it runs again
        assert not select.select([puppet.process.stdout], [], [], 0.05)[0]
        report = killswitch.resume(inside)
        assert report.done
        assert "resumed" in report.steps_ns
        assert puppet.answer() == puppet.pid
        connect(puppet, to)


def test_what_was_contained_for_nothing_goes_on(inside, puppet, killswitch):
    killswitch.contain(inside)
    assert until(lambda: killswitch.is_frozen(inside))  # it is begun, and not waited for
    assert killswitch.release(inside, puppet.pid)
    assert puppet("getpid") == puppet.pid
    assert not killswitch.is_frozen(inside)


def test_who_is_stopped_while_he_is_contained_stays_stopped_until_he_is_resumed(
    inside, puppet, killswitch
):
    killswitch.contain(inside)
    assert killswitch.freeze(inside).done
    assert not killswitch.release(inside, puppet.pid)
    assert not killswitch.uncontain(inside)
    assert killswitch.is_frozen(inside)
    assert killswitch.resume(inside).done
    assert puppet("getpid") == puppet.pid


def test_a_verdict_that_passes_does_not_thaw_what_was_not_contained_for_it(
    inside, puppet, killswitch
):
    killswitch.contain(inside)
    assert killswitch.freeze(inside).done
    assert killswitch.resume(inside).done
    (inside.cgroup / "cgroup.freeze").write_text("1")  # the agent's own container does that too
    assert killswitch.release(inside, puppet.pid)
    assert (inside.cgroup / "cgroup.freeze").read_text() == "1\n"
    (inside.cgroup / "cgroup.freeze").write_text("0")


def test_the_network_is_cut_before_the_freeze_is_asked_for(inside, lab):
    order = []

    def cut(slot, on):
        order.append(("cut", slot, on, says(inside.cgroup)))

    switch = KillSwitch(cut, Holds(lab.kernel), cgroup_root=lab.cgroup_root, deadline_ms=1000)
    inside.ready("family", "children", "0")
    assert switch.freeze(inside).done
    assert order == [("cut", inside.slot, True, ["populated", "1", "frozen", "0"])]


@pytest.mark.parametrize("restless", ["forks", "execs", "vforks"])
def test_the_moment_of_the_freeze_is_the_kernels_and_not_when_it_was_asked_for(
    inside, killswitch, kernel, restless, monkeypatch
):
    """Who comes late to look, because somebody else had the processor, is told the truth."""
    inside.ready("restless", restless)
    assert kernel.still_since(inside.slot) == 0
    wait = killswitch._wait

    def late(*a):
        done = wait(*a)
        time.sleep(0.02)
        return done

    monkeypatch.setattr(killswitch, "_wait", late)
    report = killswitch.freeze(inside)
    assert report.done
    frozen_ns = report.steps_ns["frozen"]
    assert frozen_ns == kernel.still_since(inside.slot)
    assert report.steps_ns["cut"] < frozen_ns < now_ns() - 20_000_000
    assert killswitch.resume(inside).done
    assert kernel.still_since(inside.slot) == 0


def test_a_session_that_stood_still_already_is_frozen_from_when_that_was_asked_for(
    inside, killswitch
):
    inside.ready("family", "children", "0")
    first = killswitch.freeze(inside)
    again = killswitch.freeze(inside)
    assert first.steps_ns["frozen"] < again.steps_ns["cut"] == again.steps_ns["frozen"]


def test_what_is_below_a_session_does_not_speak_for_it(inside, lab, kernel):
    below = inside.cgroup / "below"
    below.mkdir()
    inside.ready("family", "children", "0")
    (below / "cgroup.freeze").write_text("1")
    assert kernel.still_since(inside.slot) == 0


# Guards -----------------------------------------------------------------------------------------


def aims(lab, session):
    root = lab.cgroup_root
    return {
        "the root": Aim("x", 50, root),
        "outside of the hierarchy": Aim("x", 50, Path("/tmp")),
        "a sibling by its spelling": Aim("x", 50, Path(f"{root}-other/x")),
        "a path that climbs": Aim("x", 50, session.cgroup / ".." / ".."),
        "slot 0": Aim("x", 0, session.cgroup),
    }


@pytest.fixture
def nothing_written(monkeypatch):
    """A guard that fails must fail the test, and not freeze the one who runs it."""

    def write(cgroup, name, value):
        raise AssertionError(f"{value!r} would have been written to {cgroup}/{name}")

    def freeze(files, value):
        raise AssertionError(f"{value!r} would have been written to a cgroup.freeze")

    monkeypatch.setattr(killswitch_module, "_write", write)
    monkeypatch.setattr(killswitch_module.CgroupFiles, "freeze", freeze)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize("verb", ["freeze", "resume", "kill"])
@pytest.mark.parametrize(
    "which",
    [
        "the root",
        "outside of the hierarchy",
        "a sibling by its spelling",
        "a path that climbs",
        "slot 0",
    ],
)
def test_a_guard_refuses(inside, lab, which, verb):
    cut = []
    switch = KillSwitch(
        lambda *a: cut.append(a), Holds(lab.kernel), cgroup_root=lab.cgroup_root, deadline_ms=100
    )
    process = inside.ready("family", "children", "0")
    with pytest.raises(GuardError):
        getattr(switch, verb)(aims(lab, inside)[which])
    assert not cut
    assert process.poll() is None


@contextmanager
def joined(cgroup, root):
    """The test itself in a cgroup; nothing may be written there but this."""
    home = cgroups.cgroup_of(os.getpid(), root)
    assert cgroups.move(os.getpid(), cgroup)
    try:
        yield
    finally:
        assert cgroups.move(os.getpid(), home)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize("depth", ["its own", "one above"])
def test_the_cgroup_the_monitor_is_in_is_refused(inside, lab, depth):
    below = inside.cgroup / "below"
    below.mkdir()
    cut = []
    switch = KillSwitch(
        lambda *a: cut.append(a), Holds(lab.kernel), cgroup_root=lab.cgroup_root, deadline_ms=100
    )
    with joined(inside.cgroup if depth == "its own" else below, lab.cgroup_root):
        with pytest.raises(GuardError, match="the monitor"):
            switch.freeze(inside)
        with pytest.raises(GuardError, match="the monitor"):
            switch.kill(inside)
    assert not cut


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize("act", ["contain", "freeze", "kill"])
def test_the_monitor_that_was_moved_after_the_guard_looked_is_still_not_stopped(inside, lab, act):
    switch = KillSwitch(
        lambda *_: None,
        Holds(lab.kernel),
        cgroup_root=lab.cgroup_root,
        displaced=lab.kernel.displaced,
    )
    switch.prepare(inside)
    with joined(inside.cgroup, lab.cgroup_root), pytest.raises(GuardError, match="the monitor"):
        getattr(switch, act)(inside)


@pytest.mark.usefixtures("nothing_written")
def test_the_cgroup_init_is_in_is_refused(inside, lab, monkeypatch):
    # Init is not ours to move: what /proc says of it is all that can be changed.
    where = f"/{inside.cgroup.relative_to(lab.cgroup_root)}"
    lines = {1: where + "/deeper", os.getpid(): "/"}
    monkeypatch.setattr(killswitch_module, "_cgroup_line", lambda file: lines[pid_of(file)])
    with pytest.raises(GuardError, match="init"):
        KillSwitch(lambda *_: None, Holds(lab.kernel), cgroup_root=lab.cgroup_root).freeze(inside)


def test_a_cgroup_whose_name_only_begins_like_the_monitors_is_not_refused(lab, monkeypatch):
    with lab.session() as session:
        name = f"/{session.cgroup.relative_to(lab.cgroup_root)}"
        monkeypatch.setattr(killswitch_module, "_cgroup_line", lambda _: name + "-monitor")
        session.ready("family", "children", "0")
        assert (
            KillSwitch(lambda *_: None, Holds(lab.kernel), cgroup_root=lab.cgroup_root)
            .freeze(session)
            .done
        )


# What the kernel does on its own ----------------------------------------------------------------


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


# Uninterruptible sleep --------------------------------------------------------------------------

FAN_CLASS_CONTENT, FAN_CLOEXEC = 4, 1
FAN_OPEN_PERM = 0x10000
FAN_MARK_ADD = 1
libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def unanswered(path):
    """Whoever opens the file waits for an answer that does not come, asleep past all signals but a kill."""
    fan = libc.fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, os.O_RDONLY)
    if fan < 0:
        pytest.skip(f"no fanotify permission events here: {os.strerror(ctypes.get_errno())}")
    try:
        mask = ctypes.c_uint64(FAN_OPEN_PERM)
        if libc.fanotify_mark(fan, FAN_MARK_ADD, mask, CWD, os.fsencode(path)):
            pytest.skip(f"no fanotify permission events here: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        os.close(fan)  # lets everybody go who still waits


def asleep(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "D"


@pytest.fixture
def stuck(inside, puppet, scratch):
    """A process of the session in uninterruptible sleep."""
    (scratch / "file").touch()
    with unanswered(scratch / "file"):
        puppet.become("openat", CWD, os.fsencode(scratch / "file"), os.O_RDONLY)
        assert until(lambda: asleep(puppet.pid))
        yield puppet


def test_a_freeze_that_cannot_be_confirmed_says_so_in_time_and_the_network_is_cut(
    inside, stuck, lab, kernel
):
    switch = KillSwitch(
        lambda slot, on: kernel.quarantine(slot, on=on),
        Holds(kernel),
        cgroup_root=lab.cgroup_root,
        deadline_ms=100,
    )
    other = inside.puppet()
    start = time.monotonic()
    report = switch.freeze(inside)
    assert 0.1 <= time.monotonic() - start < 0.5
    assert not report.done
    assert "populated 1 frozen 0" in report.detail
    assert "frozen" not in report.steps_ns
    assert "cut" in report.steps_ns
    (inside.cgroup / "cgroup.freeze").write_text("0")  # one that can run is let run, to try
    with pytest.raises(PermissionError):
        connect(other.stubborn(), address("127.0.0.1", 9))


def test_a_kill_does_not_wait_for_a_freeze_that_cannot_be_confirmed(inside, stuck, lab, kernel):
    switch = KillSwitch(
        lambda slot, on: kernel.quarantine(slot, on=on),
        Holds(kernel),
        cgroup_root=lab.cgroup_root,
        deadline_ms=100,
    )
    report = switch.kill(inside)
    assert report.done
    assert list(report.steps_ns) == ["cut", "killed", "empty"]


# Evidence ---------------------------------------------------------------------------------------


def test_evidence_tells_processes_with_their_files_and_sockets(inside, puppet, killswitch, scratch):
    (scratch / "held").touch()
    puppet("openat", CWD, os.fsencode(scratch / "held"), os.O_WRONLY)
    with listener() as server:
        port = server.getsockname()[1]
        connect(puppet, address("127.0.0.1", port))
        history = inside.events()
        assert killswitch.freeze(inside).done
        evidence = collect(inside.cgroup, history, [])
    [process] = evidence["processes"]
    assert process["pid"] == puppet.pid
    assert process["argv"] == [inside.lab.program("puppet")]
    assert any(f.endswith(str(scratch / "held")) for f in process["files"])
    assert [s["remote"] for s in process["sockets"]] == [f"127.0.0.1:{port}"]
    assert [e["kind"] for e in evidence["events"]] == ["Opened", "Connected"]


def test_evidence_of_a_cgroup_that_is_gone_is_empty(lab):
    cgroup = lab.empty_cgroup()
    cgroup.rmdir()
    assert collect(cgroup, [], [])["processes"] == []


def test_recall_brings_a_process_that_left_back_under_the_freeze(inside, puppet, lab, killswitch):
    away = lab.empty_cgroup()
    assert cgroups.move(puppet.pid, away)
    assert killswitch.recall(inside, puppet.pid)
    assert list(cgroups.members(inside.cgroup)) == [puppet.pid]
    assert killswitch.freeze(inside).done


def test_recall_of_a_process_that_ended_says_so(inside, killswitch):
    process = inside.start("family", "exit", "0")
    process.wait()
    assert not killswitch.recall(inside, process.pid)
