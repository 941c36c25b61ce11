# SPDX-License-Identifier: Apache-2.0
"""Calls that reach beyond the session, one after the other."""

from __future__ import annotations

import os
import signal
import struct
import subprocess

import pytest

from monitor.events import CgroupMoved, Opened, Privileged, Signalled
from monitor.tier import Tier

CWD = -100
NEW_NS, NEW_UTS = 0x20000, 0x4000000
PRIVATE = 0x40000 | 0x4000
BIND = 0x1000
DETACH = 2
PTRACE_SEIZE = 0x4206
PROG_GET_NEXT_ID = 11
CLONE_TREE, EMPTY_FROM = 1, 4
NOTIFY, REPORT_FID, REPORT_DIR_FID = 0, 0x200, 0x400


def io_uring_setup(puppet, _):
    try:
        puppet("io_uring_setup", 4, puppet.place(bytes(256)))
    except PermissionError as error:
        pytest.skip(f"io_uring is switched off here: {error}")
    return {"arg0": 4}


def memfd_create(puppet, _):
    puppet("memfd_create", b"name \x1b", 0)
    return {"text": "name \x1b"}


def fanotify_init(puppet, _):
    puppet("fanotify_init", NOTIFY, os.O_RDWR)
    return {"arg0": NOTIFY, "arg1": os.O_RDWR}


def ptrace(puppet, inside):
    other = inside.ready("family", "children", "0").pid
    puppet("ptrace", PTRACE_SEIZE, other, 0, 0)
    return {"arg0": PTRACE_SEIZE, "arg1": other}


def memory(puppet):
    at = puppet.place(bytes(16))
    return puppet.place(struct.pack("<QQ", at, 16))


def vm_read(puppet, _):
    vector = memory(puppet)
    assert puppet("process_vm_readv", puppet.pid, vector, 1, vector, 1, 0) == 16
    return {"arg0": puppet.pid, "result": 16}


def vm_write(puppet, _):
    vector = memory(puppet)
    assert puppet("process_vm_writev", puppet.pid, vector, 1, vector, 1, 0) == 16
    return {"arg0": puppet.pid, "result": 16}


def private_mounts(puppet, scratch):
    """A namespace where mounts reach nobody else, and a file system to try on."""
    puppet("unshare", NEW_NS)
    puppet("mount", b"none", b"/", 0, PRIVATE, 0)
    puppet("mount", b"none", os.fsencode(scratch), b"tmpfs", 0, 0)


def bpf(puppet, _):
    puppet("bpf", PROG_GET_NEXT_ID, puppet.place(bytes(64)), 64)
    return {"arg0": PROG_GET_NEXT_ID}


def setuid(puppet, _):
    puppet("setresuid", 65534, 65534, 65534)
    return {"arg0": 65534}


def setgid(puppet, _):
    puppet("setresgid", 65534, 65534, 65534)
    return {"arg0": 65534}


def capset(puppet, _):
    header = puppet.place(struct.pack("<II", 0x20080522, 0))
    puppet("capset", header, puppet.place(bytes(24)))
    return {}


def unshare(puppet, _):
    puppet("unshare", NEW_UTS)
    return {"arg0": NEW_UTS}


def setns(puppet, _):
    puppet("setns", puppet("openat", CWD, b"/proc/self/ns/uts", os.O_RDONLY), NEW_UTS)
    return {"arg1": NEW_UTS}


NOBODY = 65534
NARROW = {
    "setuid": (NOBODY,),
    "setreuid": (NOBODY, NOBODY),
    "setresuid": (NOBODY, NOBODY, NOBODY),
    "setgid": (NOBODY,),
    "setregid": (NOBODY, NOBODY),
    "setresgid": (NOBODY, NOBODY, NOBODY),
}


@pytest.mark.parametrize("call", NARROW)
def test_ids_of_16_bits_are_told_like_all_others(inside, puppet, call):
    puppet.compat(call, *NARROW[call])
    [event] = inside.events(Privileged)
    assert event.operation == ("setuid" if "uid" in call else "setgid")
    assert event.args[0] == NOBODY


def test_the_older_umount_is_told_with_its_target(inside, puppet, scratch):
    private_mounts(puppet, scratch)
    inside.forget_events()
    puppet.compat("umount", os.fsencode(scratch))
    [event] = inside.events(Privileged)
    assert (event.operation, event.text) == ("umount", str(scratch))


NOFILE, PRIO_PROCESS, IOPRIO_WHO_PROCESS, BEST_EFFORT = 7, 0, 1, 2 << 13 | 4
LIMITS = {
    "prlimit64": lambda place, pid: (pid, NOFILE, place(struct.pack("<QQ", 900, 4000)), 0),
    "setpriority": lambda _, pid: (PRIO_PROCESS, pid, 5),
    "ioprio_set": lambda _, pid: (IOPRIO_WHO_PROCESS, pid, BEST_EFFORT),
    "sched_setparam": lambda place, pid: (pid, place(bytes(4))),
    "sched_setscheduler": lambda place, pid: (pid, 0, place(bytes(4))),
    "sched_setaffinity": lambda place, pid: (pid, 8, place(b"\xff" * 8)),
    "sched_setattr": lambda place, pid: (pid, place(struct.pack("<I44x", 48)), 0),
}


@pytest.fixture
def stranger():
    """The pid of a process of no session."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize("call", LIMITS)
def test_what_a_stranger_may_have_is_told_when_it_is_changed(inside, puppet, call, stranger):
    puppet(call, *LIMITS[call](puppet.place, stranger))
    [event] = inside.events(Privileged)
    assert event.operation == "limit"
    assert event.args[0] == stranger


@pytest.mark.parametrize("call", LIMITS)
def test_what_a_session_takes_from_its_own_is_nobodys_business(inside, puppet, call):
    other = inside.ready("family", "children", "0").pid
    inside.forget_events()
    for pid in (0, puppet.pid, other):
        puppet(call, *LIMITS[call](puppet.place, pid))
    assert inside.events(Privileged) == []


def test_a_thread_may_name_itself_by_its_own_number(inside, scratch):
    assert inside.start("family", "thread-yields", scratch / "touched").wait() == 0
    told = inside.events()
    assert [e.file.path.text for e in told if isinstance(e, Opened)][-1:] == [
        str(scratch / "touched")
    ]
    assert [e for e in told if isinstance(e, Privileged)] == []


def test_to_ask_for_a_limit_changes_none(inside, puppet, stranger):
    puppet("prlimit64", stranger, NOFILE, 0, puppet.place(bytes(16)))
    assert inside.events(Privileged) == []


@pytest.mark.parametrize(
    "act",
    [
        io_uring_setup, memfd_create, fanotify_init, ptrace, vm_read, vm_write, bpf, setuid, setgid,
        capset, unshare, setns,
    ],
    ids=lambda act: act.__name__,
)  # fmt: skip
def test_the_call_is_told_with_its_arguments(inside, puppet, kernel, act):
    if act is bpf and kernel.tier is Tier.LSM:
        pytest.skip("refused on this tier: tests/kernel/lsm")
    expected = act(puppet, inside)
    [told] = inside.events(Privileged)
    assert told.operation == act.__name__
    assert told.tgid == puppet.pid
    found = {f"arg{n}": value for n, value in enumerate(told.args)}
    found |= {"text": told.text, "result": told.result}
    assert found | expected == found


@pytest.mark.parametrize("how", [REPORT_FID, REPORT_DIR_FID])
def test_who_watches_files_by_handle_gets_no_descriptor_and_is_no_event(inside, puppet, how):
    puppet("fanotify_init", how, os.O_RDWR)
    assert inside.events(Privileged) == []


def test_a_call_that_failed_is_no_event(inside, puppet):
    with pytest.raises(OSError):
        puppet("mount", b"none", b"/nowhere/at all", b"tmpfs", 0, 0)
    assert inside.events() == []


def test_every_way_to_mount_is_told_with_its_target(inside, puppet, scratch):
    private_mounts(puppet, scratch)
    names = {name: os.fsencode(scratch / name) for name in ("a", "b", "old")}
    for name in names.values():
        puppet("mkdir", name, 0o700)
    puppet("mount", names["a"], names["b"], 0, BIND, 0)
    puppet("umount2", names["b"], DETACH)
    tree = puppet("open_tree", CWD, names["a"], CLONE_TREE)
    puppet("move_mount", tree, b"", CWD, names["b"], EMPTY_FROM)
    puppet("pivot_root", os.fsencode(scratch), names["old"])
    told = [(e.operation, os.fsencode(e.text)) for e in inside.events(Privileged)]
    assert told == [
        ("unshare", b""),
        ("mount", b"/"),
        ("mount", os.fsencode(scratch)),
        ("mount", names["b"]),
        ("umount", names["b"]),
        ("move_mount", names["b"]),
        ("pivot_root", os.fsencode(scratch)),
    ]


def move(puppet, cgroup):
    fd = puppet("openat", CWD, os.fsencode(cgroup / "cgroup.procs"), os.O_WRONLY)
    puppet("write", fd, b"0", 1)


@pytest.mark.usefixtures("nothing_refused")
def test_a_move_below_the_sessions_cgroup_is_inside(inside, puppet, lab):
    below = inside.cgroup / "below"
    below.mkdir()
    move(puppet, below)
    [moved] = inside.events(CgroupMoved)
    assert (moved.target, moved.inside) == (puppet.pid, True)
    assert moved.path == f"/{below.relative_to(lab.cgroup_root)}"


@pytest.mark.usefixtures("nothing_refused")
def test_a_move_out_of_the_sessions_cgroup_is_not(inside, puppet, lab):
    away = lab.empty_cgroup()
    move(puppet, away)
    [moved] = inside.events(CgroupMoved)
    assert (moved.target, moved.inside) == (puppet.pid, False)
    assert moved.path == f"/{away.relative_to(lab.cgroup_root)}"


def test_a_process_that_somebody_else_moves_away_is_told_as_well(inside, puppet, lab):
    (lab.empty_cgroup() / "cgroup.procs").write_text(str(puppet.pid))
    [moved] = inside.events(CgroupMoved)
    assert (moved.target, moved.inside) == (puppet.pid, False)


@pytest.mark.usefixtures("nothing_refused")
def test_a_signal_to_the_monitor_is_told_and_one_that_only_asks_is_not(inside, puppet):
    puppet("kill", os.getpid(), 0)
    assert inside.events() == []
    puppet("kill", os.getpid(), int(signal.SIGCONT))
    puppet("pidfd_send_signal", puppet("pidfd_open", os.getpid(), 0), int(signal.SIGCONT), 0, 0)
    assert [e.signal for e in inside.events(Signalled)] == [signal.SIGCONT] * 2


def test_a_signal_among_the_sessions_own_is_none(inside, puppet):
    puppet("kill", puppet.pid, int(signal.SIGCONT))
    assert inside.events() == []


# What was refused -------------------------------------------------------------------------------


def test_what_was_refused_is_told_as_refused(inside, puppet):
    roots = inside.ready("family", "children", "0").pid  # pid 1 may share our terminal's session
    puppet("setresuid", 65534, 65534, 65534)
    inside.forget_events()
    attempts = {
        "bpf": (PROG_GET_NEXT_ID, puppet.place(bytes(16)), 16),
        "ptrace": (PTRACE_SEIZE, roots, 0, 0),
        "kill": (roots, signal.SIGTERM),  # SIGCONT is allowed within a terminal's session
    }
    for call, arguments in attempts.items():
        with pytest.raises(PermissionError):
            puppet(call, *arguments)
    told = [(e.operation, e.result) for e in inside.events(Privileged)]
    assert told == [(call, -1) for call in attempts]


def test_a_signal_that_was_sent_is_nobody_elses_business(inside, puppet):
    other = inside.ready("family", "children", "0")
    inside.forget_events()
    puppet("kill", other.pid, 0)
    assert inside.events() == []
