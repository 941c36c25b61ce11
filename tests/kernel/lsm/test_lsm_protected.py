# SPDX-License-Identifier: Apache-2.0
"""A session lays no hand on the monitor, the kernel, outsiders, or cgroups that are not its own."""

from __future__ import annotations

import os
import signal
import struct

import pytest
from calls import opening
from refusals import refused

from monitor.events import Privileged, Signalled, Verdict
from monitor.lowered import Lowered
from monitor.response.protection import own_watches
from monitor.response.verdicts import Verdicts

pytestmark = pytest.mark.tier("lsm")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL])
def test_no_signal_reaches_the_monitor(inside, puppet, number):
    with pytest.raises(PermissionError):
        puppet("kill", os.getpid(), number)
    event = inside.wait(Signalled)
    assert (event.signal, event.verdict) == (number, Verdict.REFUSED)
    assert inside.events(Privileged) == []
    assert puppet("kill", os.getpid(), 0) == 0
    assert puppet("kill", puppet.pid, signal.SIGCHLD) == 0


def test_the_monitor_cannot_be_traced_read_or_weakened(inside, puppet):
    memory = puppet.place(struct.pack("QQ", puppet.place(b"." * 8), 8))
    for call in (
        ("ptrace", 0x4206, os.getpid(), 0, 0),
        ("process_vm_readv", os.getpid(), memory, 1, memory, 1, 0),
        opening(puppet, f"/proc/{os.getpid()}/mem", os.O_RDWR),
        opening(puppet, f"/proc/{os.getpid()}/environ"),
        ("prlimit64", os.getpid(), 7, puppet.place(struct.pack("QQ", 0, 0)), 0),
        ("setpriority", 0, os.getpid(), 19),
        ("sched_setaffinity", os.getpid(), 8, puppet.place(struct.pack("Q", 1))),
    ):
        with pytest.raises(PermissionError):
            puppet(*call)
    operations = [e.operation for e in inside.events(Privileged)]
    assert operations.count("ptrace") >= 3


def test_outsiders_cannot_be_traced_and_those_of_the_session_can(inside, puppet, lab):
    with lab.session(watched=False) as outside:
        stranger = outside.puppet()
        with pytest.raises(PermissionError):
            puppet("ptrace", 0x4206, stranger.pid, 0, 0)
        memory = puppet.place(struct.pack("QQ", puppet.place(b"." * 8), 8))
        with pytest.raises(PermissionError):
            puppet("process_vm_readv", stranger.pid, memory, 1, memory, 1, 0)
        told = [(e.operation, e.verdict) for e in inside.events(Privileged)]
        assert told == [("ptrace", Verdict.REFUSED)] * 2  # by the hook, not by the sensor again
        assert puppet(*opening(puppet, f"/proc/{stranger.pid}/stat")) >= 0
    sibling = inside.puppet()
    assert puppet("ptrace", 0x4206, sibling.pid, 0, 0) == 0


def test_bpf_is_refused(inside, puppet):
    with pytest.raises(PermissionError):
        puppet("bpf", 0, puppet.place(struct.pack("IIII", 2, 4, 4, 1).ljust(128, b"\0")), 128)
    [event] = inside.events(Privileged)
    assert (event.operation, event.verdict) == ("bpf", Verdict.REFUSED)


def test_a_session_does_not_leave_its_cgroup(inside, puppet, lab):
    other = lab.empty_cgroup()
    for name in ("cgroup.procs", "cgroup.kill", "cgroup.freeze"):
        with pytest.raises(PermissionError):
            puppet(*opening(puppet, other / name, os.O_WRONLY))
    directory = puppet(*opening(puppet, other, os.O_RDONLY | os.O_DIRECTORY))
    arguments = struct.pack("11Q", 0x200000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, directory)
    with pytest.raises(PermissionError):
        puppet("clone3", puppet.place(arguments), 88)
    assert not (other / "cgroup.procs").read_text()


def test_the_monitors_own_directories_are_read_and_not_changed(inside, puppet, kernel, scratch):
    own = scratch / "var" / "estop"
    (own / "rules").mkdir(parents=True)
    (own / "rules" / "x.yml").write_text("title: x")
    (own / "token").write_text("secret")
    verdicts = Verdicts(kernel, own_watches([own], [own / "token"]))
    verdicts.replace(Lowered())
    try:
        assert puppet(*opening(puppet, own / "rules" / "x.yml")) >= 0
        with pytest.raises(PermissionError):
            puppet(*opening(puppet, own / "token"))
        with pytest.raises(PermissionError):
            puppet(*opening(puppet, own / "rules" / "x.yml", os.O_WRONLY | os.O_TRUNC))
        with pytest.raises(PermissionError):
            puppet(*opening(puppet, own / "rules" / "new.yml", os.O_WRONLY | os.O_CREAT))
        for call in (
            ("unlink", own / "rules" / "x.yml"),
            ("rename", own / "rules", scratch / "rules"),
            ("rename", own, scratch / "gone"),
            ("rename", own.parent, scratch / "gone"),
            ("symlink", b"/dev/null", own / "link"),
            ("truncate", own / "token", 0),
        ):
            refused(puppet, *call)
    finally:
        Verdicts(kernel).replace(Lowered())
    assert (own / "rules" / "x.yml").read_text() == "title: x"
    assert sorted(os.listdir(own)) == ["rules", "token"]
