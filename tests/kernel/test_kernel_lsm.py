# SPDX-License-Identifier: Apache-2.0
"""On the lsm tier what a rule is certain about does not happen: whatever way led to the object."""

from __future__ import annotations

import array
import mmap
import os
import signal
import socket
import struct
from contextlib import contextmanager
from pathlib import Path

import pytest
from laboratory import Puppet, until
from wires import address as internet
from wires import connect, listener

from monitor.capture.kernel import KernelSettings
from monitor.events import (
    Executed,
    Linked,
    Opened,
    Privileged,
    Renamed,
    Signalled,
    Truncated,
    UnixConnected,
    Unlinked,
    Verdict,
)
from monitor.lowered import Act, Lowered, SocketWatch, Watch, Where
from monitor.response.holds import Holds
from monitor.response.protection import own_watches
from monitor.response.verdicts import Verdicts

pytestmark = pytest.mark.tier("lsm")

CWD = -100
REFUSED = Verdict.CANDIDATE | Verdict.CERTAIN | Verdict.REFUSED
EVERY_ACT = Act((1 << 14) - 1)
KEPT = b"127.0.0.1 localhost\n"


@pytest.fixture
def verdicts(kernel):
    """What the kernel looks for; nothing when the test is over."""
    made = Verdicts(kernel)
    yield made
    made.replace(Lowered())
    made.follow({})


@pytest.fixture
def watch(verdicts):
    """Watch paths; the rule is certain about every act, unless told otherwise."""

    def watch(*paths, where=Where.EXACT, hold=EVERY_ACT, certain=EVERY_ACT, exempt=()):
        verdicts.replace(
            Lowered(
                watches=tuple(
                    Watch(where, str(path), Act(hold), Act(certain), frozenset(exempt))
                    for path in paths
                )
            )
        )
        found = {str(p): {(p.stat().st_dev, p.stat().st_ino)} for p in paths if p.exists()}
        if where is Where.EXACT:
            verdicts.follow(found)

    return watch


@pytest.fixture
def hosts(scratch, watch):
    """A file that stands for /etc/hosts, in a directory that stands for /etc."""
    etc = scratch / "etc"
    etc.mkdir()
    (etc / "hosts").write_bytes(KEPT)
    (etc / "other").write_bytes(b"mine\n")
    watch(etc / "hosts")
    return etc / "hosts"


def opening(puppet, path, flags=os.O_RDONLY):
    return ("openat", CWD, puppet.place(os.fsencode(path)), flags, 0o600)


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def calling(puppet, name, *arguments):
    words = [a if isinstance(a, int) else puppet.place(os.fsencode(a)) for a in arguments]
    return puppet(name, *words)


def refused(puppet, name, *arguments):
    with pytest.raises(PermissionError):
        calling(puppet, name, *arguments)


def told(inside, kind):
    """The event of what was refused; there is exactly one of its kind."""
    (event,) = (e for e in inside.events(kind) if e.verdict)
    assert event.verdict == REFUSED
    assert event.held_ns >= event.ktime_ns
    return event


# Files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_APPEND],
)
def test_an_open_is_refused_and_truncates_nothing(inside, puppet, hosts, flags):
    with pytest.raises(PermissionError):
        puppet(*opening(puppet, hosts, flags))
    assert told(inside, Opened).file.path.text == str(hosts)
    assert hosts.read_bytes() == KEPT


def test_a_watched_name_is_not_created_and_the_name_beside_it_is(inside, puppet, scratch, watch):
    watch(scratch / "absent")
    with pytest.raises(PermissionError):
        puppet(*opening(puppet, scratch / "absent", os.O_CREAT | os.O_WRONLY))
    assert told(inside, Opened).file.path.text == str(scratch / "absent")
    assert not (scratch / "absent").exists()
    assert puppet(*opening(puppet, scratch / "present", os.O_CREAT | os.O_WRONLY)) >= 0


def test_only_the_acts_that_the_rule_names_are_refused(inside, puppet, hosts, watch):
    watch(hosts, hold=Act.WRITE, certain=Act.WRITE)
    assert puppet(*opening(puppet, hosts)) >= 0
    with pytest.raises(PermissionError):
        puppet(*opening(puppet, hosts, os.O_WRONLY))


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (Renamed, ("rename", "other", "hosts")),
        (Renamed, ("rename", "hosts", "gone")),
        (Renamed, ("renameat2", CWD, "other", CWD, "hosts", 2)),
        (Renamed, ("renameat2", CWD, "hosts", CWD, "other", 2)),
        (Linked, ("link", "hosts", "alias")),
        (Unlinked, ("unlink", "hosts")),
        (Truncated, ("truncate", "hosts", 0)),
    ],
)
def test_names_are_refused_whichever_side_they_are_on(inside, puppet, hosts, kind, call):
    calling(puppet, "chdir", hosts.parent)
    refused(puppet, *call)
    told(inside, kind)
    assert hosts.read_bytes() == KEPT
    assert sorted(os.listdir(hosts.parent)) == ["hosts", "other"]


def test_a_directory_above_a_watched_file_is_not_renamed_away(inside, puppet, hosts):
    decoy = hosts.parent.with_name("decoy")
    decoy.mkdir()
    refused(puppet, "rename", hosts.parent, hosts.parent.with_name("gone"))
    refused(puppet, "renameat2", CWD, decoy, CWD, hosts.parent, 2)
    assert hosts.read_bytes() == KEPT


def test_a_hard_link_and_a_bind_mount_are_the_same_file(inside, hosts, scratch, lab, watch):
    alias, link = scratch / "alias", scratch / "link"
    alias.mkdir()
    link.hardlink_to(hosts)
    watch(hosts)
    script = f"mount --bind {hosts.parent} {alias} && exec {lab.program('puppet')}"
    view = ("--mount", "--propagation", "private", "sh", "-c", script)
    other = Puppet(inside.ready("/usr/bin/unshare", *view))
    for path in (link, alias / "hosts", f"/proc/self/root{hosts}"):
        with pytest.raises(PermissionError):
            other(*opening(other, path, os.O_RDWR))
        with pytest.raises(PermissionError):
            other(*opening(other, path))
    assert hosts.read_bytes() == KEPT


def test_nothing_is_mounted_over_a_watched_file_or_above_it(inside, puppet, hosts):
    private = 0x20000  # CLONE_NEWNS
    puppet("unshare", private)
    fake = hosts.parent.with_name("fake")
    fake.mkdir()
    for over, what in ((hosts, hosts.parent / "other"), (hosts.parent, fake)):
        refused(puppet, "mount", what, over, b"", 4096, 0)  # MS_BIND
    events = [e for e in inside.events(Privileged) if e.verdict]
    assert [e.text for e in events] == [str(hosts), str(hosts.parent)]
    assert all(e.operation == "mount" and e.verdict == REFUSED for e in events)


# Descriptors that others opened -----------------------------------------------------------------


def test_an_inherited_descriptor_neither_reads_nor_writes_nor_truncates(inside, hosts):
    fd = os.open(hosts, os.O_RDWR)
    puppet = Puppet(inside.ready("puppet", pass_fds=(fd,)))
    inside.forget_events()
    for call in (("pwrite64", fd, b"x", 1, 0), ("ftruncate", fd, 0)):
        with pytest.raises(PermissionError):
            puppet(*call)
    with pytest.raises(PermissionError):
        puppet("pread64", fd, puppet.place(b"." * 64), 64, 0)
    with pytest.raises(PermissionError):
        puppet("mmap", 0, 4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    os.close(fd)
    assert hosts.read_bytes() == KEPT
    assert {type(e) for e in inside.events() if e.verdict == REFUSED} == {Opened, Truncated}


def test_a_descriptor_that_is_passed_does_not_arrive(inside, puppet, hosts, scratch):
    ours, theirs = socket.socketpair()
    puppet = Puppet(inside.ready("puppet", pass_fds=(theirs.fileno(),)))
    with hosts.open("rb") as file, (hosts.parent / "other").open("rb") as other:
        for passed, arrives in ((file, False), (other, True)):
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [passed.fileno()]))]
            ours.sendmsg([b"x"], rights)
            data, control = puppet.place(b"." * 8), puppet.place(bytes(64))
            vector = puppet.place(struct.pack("QQ", data, 8))
            message = puppet.place(struct.pack("QQQQQQQ", 0, 0, vector, 1, control, 64, 0))
            puppet("recvmsg", theirs.fileno(), message, 0)
            length = struct.unpack("QQQQQQQ", puppet.memory(message, 56))[5]
            assert bool(length) is arrives
    ours.close()
    theirs.close()


# io_uring ---------------------------------------------------------------------------------------


class Ring:
    """One io_uring of a puppet, a request at a time."""

    def __init__(self, puppet, scratch):
        self._puppet = puppet
        self._copy = puppet(*opening(puppet, scratch / "copy", os.O_CREAT | os.O_RDWR))
        params = puppet.place(bytes(120))
        self.fd = puppet("io_uring_setup", 4, params)
        said = puppet.memory(params, 120)
        self._tail, self._array = struct.unpack_from("4xI16xI", said, 40)
        self._mask = struct.unpack_from("8xI", said, 40)[0]
        self._completions = struct.unpack_from("20xI", said, 80)[0]
        shared = (mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, self.fd)
        self._ring = puppet("mmap", 0, 4096, *shared, 0)
        self._entries = puppet("mmap", 0, 4096, *shared, 0x10000000)
        self._count = 0

    def _poke(self, address, content):
        self._puppet("pwrite64", self._copy, self._puppet.place(content), len(content), 0)
        self._puppet("pread64", self._copy, address, len(content), 0)

    def __call__(self, operation, fd, address, length=0, offset=0, flags=0):
        entry = struct.pack("<BBHiQQII", operation, 0, 0, fd, offset, address, length, flags)
        self._poke(self._entries, entry.ljust(64, b"\0"))
        self._count += 1
        self._poke(self._ring + self._array + 4 * ((self._count - 1) % 4), struct.pack("I", 0))
        self._poke(self._ring + self._tail, struct.pack("I", self._count))
        # No answer is ever taken out of the ring: wait for as many as there were requests.
        assert self._puppet("io_uring_enter", self.fd, 1, self._count, 1, 0, 0) == 1
        at = self._ring + self._completions + 16 * ((self._count - 1) % 8)
        return struct.unpack("8xi4x", self._puppet.memory(at, 16))[0]


_OPENAT, _READ, _WRITE, _RENAMEAT = 18, 22, 23, 35


def test_io_uring_is_refused_to_every_session_and_that_is_told(inside, puppet):
    with pytest.raises(PermissionError):
        puppet("io_uring_setup", 4, puppet.place(bytes(120)))
    event = inside.wait(Privileged)
    assert (event.operation, event.verdict) == ("io_uring_setup", Verdict.REFUSED)


@pytest.fixture
def with_rings(kernel):
    kernel.refuse_operations(())
    yield
    kernel.refuse_operations(KernelSettings.refused_operations)


def test_what_io_uring_does_is_refused_like_a_call(inside, hosts, scratch, with_rings):
    fd = os.open(hosts, os.O_RDWR)
    puppet = Puppet(inside.ready("puppet", pass_fds=(fd,)))
    ring = Ring(puppet, scratch)
    path, other = (puppet.place(os.fsencode(p)) for p in (hosts, hosts.parent / "other"))
    free = ring(_OPENAT, CWD, other, 0, 0, os.O_RDONLY)
    assert free >= 0
    assert ring(_OPENAT, CWD, path, 0, 0, os.O_RDONLY) == -1
    assert ring(_OPENAT, CWD, path, 0, 0, os.O_WRONLY | os.O_TRUNC) == -1
    assert ring(_WRITE, fd, other, 4) == -1
    assert ring(_READ, fd, puppet.place(b"." * 64), 64) == -1
    assert ring(_RENAMEAT, CWD, other, CWD & 0xFFFFFFFF, path) == -1
    os.close(fd)
    assert hosts.read_bytes() == KEPT


# The monitor, the kernel, the cgroups -----------------------------------------------------------


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


@pytest.mark.parametrize("family", [socket.AF_PACKET, socket.AF_VSOCK, 38])
def test_sockets_past_the_network_cut_are_refused(inside, puppet, family):
    with pytest.raises(PermissionError):
        puppet("socket", family, socket.SOCK_RAW, 0)
    assert inside.wait(Privileged).operation == "socket"
    assert puppet("socket", socket.AF_INET, socket.SOCK_STREAM, 0) >= 0


def test_a_watched_local_socket_is_refused_by_its_own_name(inside, puppet, verdicts, scratch):
    path = scratch / "docker.sock"
    link = scratch / "x"
    link.symlink_to(path)
    verdicts.replace(Lowered(sockets=(SocketWatch(Where.ENDING, "/docker.sock", certain=True),)))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        fd = puppet("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
        name = struct.pack("H", socket.AF_UNIX) + os.fsencode(link) + b"\0"
        with pytest.raises(PermissionError):
            puppet("connect", fd, puppet.place(name), len(name))
    event = told(inside, UnixConnected)
    assert (event.name, event.listener) == (str(path), os.getpid())


def test_a_program_does_not_start(inside, puppet, scratch, watch):
    program = scratch / "tool"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    watch(program)
    argv = puppet.place_texts(b"tool")
    with pytest.raises(PermissionError):
        calling(puppet, "execve", program, argv, puppet.place_texts())
    assert told(inside, Executed).image.path.text == str(program)


# Stopped ----------------------------------------------------------------------------------------


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


# Who is let through -----------------------------------------------------------------------------


def test_outsiders_and_observed_sessions_are_refused_nothing(lab, hosts, kernel):
    for observed in (False, True):
        with lab.session(watched=False) as session:
            if observed:
                session.watch(observed=True)
            puppet = session.puppet()
            assert puppet(*opening(puppet, hosts, os.O_RDWR)) >= 0
            fd = puppet("socket", socket.AF_PACKET, socket.SOCK_RAW, 0)
            assert fd >= 0
            assert puppet("io_uring_setup", 4, puppet.place(bytes(120))) >= 0
            assert puppet("kill", os.getpid(), signal.SIGURG) == 0
            if observed:
                event = session.wait(Opened, lambda e: e.file.path.text == str(hosts))
                assert event.verdict == Verdict.PASS


def test_who_the_rule_forgives_is_not_refused(inside, puppet, hosts, watch):
    watch(hosts, exempt=[puppet.image])
    assert puppet(*opening(puppet, hosts, os.O_RDWR)) >= 0


def test_ordinary_work_is_not_disturbed(inside, hosts, scratch):
    work = scratch / "work"
    work.mkdir()
    (work / "main.c").write_text("int main(void) { return 0; }\n")
    script = (
        "set -e; git init -q .; git add .; git -c user.name=x -c user.email=x@y commit -qm x;"
        "gcc -o main main.c; ./main; rm -r .git; ps aux >/dev/null; head -c1 /etc/passwd"
    )
    process = inside.start("/bin/sh", "-c", script, cwd=work)
    assert process.wait(120) == 0


def test_a_destination_is_reached_and_a_small_answer_comes_back(inside, puppet):
    with listener("127.0.0.1") as there:
        assert connect(puppet, internet("127.0.0.1", there.getsockname()[1])) >= 0


# The monitor's own files ------------------------------------------------------------------------


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
