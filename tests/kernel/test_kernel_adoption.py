# SPDX-License-Identifier: Apache-2.0
"""A tree that runs already is taken in whole: processes, open files, sockets."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import threading
import time
from contextlib import suppress

import psutil
import pytest
from laboratory import Puppet, until
from structlog.testing import capture_logs
from wires import address, connect, listener

from monitor.errors import AttachError, CaptureError, NotAllowedError, SessionNotFoundError
from monitor.events import Access, Event, Executed, Forked, Opened, View
from monitor.sessions import adopt, cgroups
from monitor.sessions import registry as registry_module
from monitor.sessions.facts import FactMaker
from monitor.sessions.observer import Observation, Observer
from monitor.sessions.places import HostMounts, Roots
from monitor.sessions.registry import Registry
from monitor.sessions.watched import WatchedPaths
from monitor.subjects import Mode, Origin, State
from monitor.supervisor import Supervisor
from monitor.tier import Tier

CWD = -100


@pytest.fixture
def labelled():
    """Sessions in which something was said to have touched a secret."""
    return []


@pytest.fixture
def facts():
    mounts = HostMounts()
    yield FactMaker(WatchedPaths([]), mounts, Roots())
    mounts.close()


@pytest.fixture
def registry(lab, facts):
    registry = Registry(
        lab.kernel,
        facts,
        cgroup_root=lab.cgroup_root,
        cgroup_name=str(lab.base.relative_to(lab.cgroup_root)),
    )
    yield registry
    for live in registry.live():
        lab.evict(live.cgroup)
        registry.close(live, State.EXITED)


@pytest.fixture
def observer(lab, facts, registry, labelled):
    return Observer(registry, lab.kernel, facts, labelled=labelled.append)


@pytest.fixture
def attach(registry, lab):
    def attach(pid):
        live = registry.attach(pid, name="agent", mode=Mode.ENFORCE)
        lab.accept(live.slot)
        return live

    return attach


@pytest.fixture
def free(lab):
    """A cgroup of no session, where a tree may already run."""
    with lab.session(watched=False) as session:
        yield session


@pytest.fixture
def shared(free):
    """The same, with a stranger in it who must be left alone."""
    stranger = free.ready("family", "children", "0")
    yield free
    assert stranger.poll() is None


def test_that_a_secret_was_touched_is_told_when_a_rule_says_so(free, attach, observer, labelled):
    live = attach(free.ready("family", "children", "0").pid)
    root = live.tree.get(live.root_pid)
    event = Event(
        ktime_ns=1, egress_bytes=0, slot=live.slot, tgid=root.pid, tid=root.pid, uid=0,
        view=View(0, 0), cut=False,
    )  # fmt: skip
    for labels in (frozenset(), frozenset({"credential"})):
        assert labelled == []
        observer.remember(Observation(event, live, root, ()), labels)
    assert labelled == [live]
    assert live.tree.fields(root)["Tainted"] == ["credential"]


def test_a_tree_that_has_its_cgroup_to_itself_keeps_it(free, attach, kernel):
    tree = free.ready("family", "children", "3")
    live = attach(tree.pid)
    assert live.origin is Origin.ATTACHED
    assert live.cgroup == free.cgroup
    assert {kernel.task_slot(pid) for pid in adopt.tree_of(tree.pid)} == {live.slot}
    assert len(live.tree) == 4


def test_a_tree_that_shares_its_cgroup_is_moved_to_one_of_its_own(shared, attach, kernel, lab):
    tree = shared.ready("family", "children", "3")
    live = attach(tree.pid)
    assert live.origin is Origin.MOVED
    assert live.cgroup.parent == lab.base
    assert set(cgroups.members(live.cgroup)) == set(adopt.tree_of(tree.pid))
    assert len(list(cgroups.members(shared.cgroup))) == 1
    assert {kernel.task_slot(pid) for pid in adopt.tree_of(tree.pid)} == {live.slot}


@pytest.mark.parametrize("where", ["free", "shared"])
@pytest.mark.parametrize("life_ms", ["0", "3", "30"])
def test_a_tree_that_forks_all_the_time_is_taken_in_whole(
    request, where, attach, lab, kernel, life_ms
):
    place = request.getfixturevalue(where)
    tree = place.ready("restless", "forks", life_ms)
    time.sleep(0.01)
    live = attach(tree.pid)
    assert live.origin is (Origin.ATTACHED if where == "free" else Origin.MOVED)
    lab.taken(live.slot)
    assert until(lambda: any(isinstance(e, Forked) for e in lab.peek(live.slot, 20)))
    forks = [e for e in lab.taken(live.slot) if isinstance(e, Forked)]
    assert {e.tgid for e in forks} == {tree.pid}
    assert set(cgroups.members(live.cgroup)) >= {tree.pid}


@pytest.mark.parametrize("where", ["free", "shared"])
def test_a_zombie_in_the_tree_keeps_nobody_from_being_taken_in(request, where, attach, kernel):
    tree = request.getfixturevalue(where).ready("family", "zombie")
    live = attach(tree.pid)
    assert list(cgroups.members(live.cgroup)) == [tree.pid]
    [zombie] = set(adopt.tree_of(tree.pid)) - {tree.pid}
    assert kernel.task_slot(zombie) == 0


def test_what_an_adopted_process_starts_is_followed(shared, attach, lab):
    puppet = Puppet(shared.ready("puppet"))
    live = attach(puppet.pid)
    argv = puppet.place_texts(b"family", b"exit", b"0")
    puppet.become("execve", lab.program("family").encode(), argv, puppet.place_texts())
    puppet.process.wait()
    runs = [e for e in lab.taken(live.slot) if isinstance(e, Executed)]
    assert [e.image.path.text for e in runs] == [lab.program("family")]


def test_files_that_were_open_before_become_events(free, attach, registry, scratch):
    for name in ("read", "written", "both"):
        (scratch / name).touch()
    os.chown(scratch / "read", 65534, 65534)
    puppet = Puppet(free.ready("puppet"))
    flags = {"read": os.O_RDONLY, "written": os.O_WRONLY | os.O_APPEND, "both": os.O_RDWR}
    for name, how in flags.items():
        puppet("openat", CWD, os.fsencode(scratch / name), how)
    puppet("openat", CWD, os.fsencode(scratch), os.O_RDONLY | os.O_DIRECTORY)
    puppet("openat", CWD, os.fsencode(scratch / "read"), os.O_PATH)
    live = attach(puppet.pid)
    opens = [e for e in registry.pending() if e.file.path.text.startswith(str(scratch))]
    assert {os.path.basename(e.file.path.text): e.access for e in opens} == {
        "read": Access.READ,
        "written": Access.WRITE,
        "both": Access.READ | Access.WRITE,
    }
    assert len(opens) == 3
    for event in opens:
        assert isinstance(event, Opened)
        assert (event.slot, event.tgid, event.uid) == (live.slot, puppet.pid, 0)
        assert event.file.inode == os.stat(event.file.path.text).st_ino
    assert registry.pending() == []


def test_an_open_file_whose_name_is_gone_keeps_its_old_name(free, attach, registry, scratch):
    puppet = Puppet(free.ready("puppet"))
    puppet("openat", CWD, os.fsencode(scratch / "gone"), os.O_WRONLY | os.O_CREAT, 0o600)
    (scratch / "gone").unlink()
    attach(puppet.pid)
    [event] = [e for e in registry.pending() if "gone" in e.file.path.text]
    assert event.file.path.text == str(scratch / "gone")
    assert event.file.links == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("where", ["free", "shared"])
def test_sockets_that_were_open_before_are_cut_by_the_quarantine(
    request, where, attach, kernel, host
):
    place = request.getfixturevalue(where)
    puppet = Puppet(place.ready("puppet"))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as receiver, listener(host) as server:
        receiver.bind((host, 0))
        receiver.settimeout(0.05)
        stream = connect(puppet, address(host, server.getsockname()[1]))
        datagrams = connect(puppet, address(host, receiver.getsockname()[1]), socket.SOCK_DGRAM)
        with server.accept()[0] as accepted:
            live = attach(puppet.pid)
            accepted.settimeout(0.05)
            puppet("write", stream, b"seen", 4)
            assert accepted.recv(8) == b"seen"
            kernel.quarantine(live.slot, on=True)
            stubborn = puppet.stubborn()
            with pytest.raises(PermissionError):
                stubborn("write", datagrams, b"cut", 3)
            with suppress(PermissionError):  # refused, or taken and not sent: as the tier can
                stubborn("write", stream, b"cut", 3)
            with pytest.raises(TimeoutError):
                accepted.recv(8)
    assert kernel.egress_bytes(live.slot)[0] == 4
    if kernel.tier is Tier.TRACEPOINT:
        assert kernel.egress_bytes(live.slot)[1] >= 6


def test_no_number_of_new_sockets_makes_an_old_one_forgotten(shared, attach, kernel):
    puppet = Puppet(shared.ready("puppet"))
    with listener("127.0.0.1") as server:
        stream = connect(puppet, address("127.0.0.1", server.getsockname()[1]))
        with server.accept()[0] as accepted:
            live = attach(puppet.pid)
            sockets = kernel.map("sockets")
            for cookie in range(1 << 40, (1 << 40) + 140_000):  # twice what there is room for
                sockets.set((cookie,), (live.slot,))
            kernel.quarantine(live.slot, on=True)
            with suppress(PermissionError):  # as above
                puppet.stubborn()("write", stream, b"cut", 3)
            accepted.settimeout(0.05)
            with pytest.raises(TimeoutError):
                accepted.recv(8)


def test_a_cgroup_too_deep_to_be_followed_is_left_for_one_of_its_own(lab, free, attach):
    deep = free.cgroup / "/".join("d" * 12)
    deep.mkdir(parents=True)
    tree = free.ready("enter", str(deep), lab.program("family"), "children", "1")
    live = attach(tree.pid)
    assert live.origin is Origin.MOVED
    assert len(list(cgroups.members(live.cgroup))) == 2


def test_a_process_that_does_not_exist_cannot_be_attached(attach):
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    with pytest.raises(AttachError, match=str(gone.pid)):
        attach(gone.pid)


@pytest.mark.parametrize("which", ["init", "the monitor", "above the monitor"])
def test_init_and_the_monitor_cannot_be_attached(attach, monkeypatch, which):
    def move(pid, cgroup):
        """A guard that fails must fail the test, and not move what the test did not start."""
        raise AssertionError(f"{pid} would have been moved to {cgroup}")

    monkeypatch.setattr(cgroups, "move", move)
    pid = {"init": 1, "the monitor": os.getpid(), "above the monitor": os.getppid()}[which]
    with pytest.raises(AttachError):
        attach(pid)


def test_a_process_of_a_session_cannot_be_attached_again(free, attach):
    tree = free.ready("family", "children", "1")
    attach(tree.pid)
    for pid in adopt.tree_of(tree.pid):
        with pytest.raises(AttachError, match="session already"):
            attach(pid)


@pytest.fixture
def frozen(registry, lab, kernel, shared, killswitch):
    """A session that stands still, and the shell from which its agent was started."""
    shell = shared.ready("family", "children", "1")
    [agent] = set(adopt.tree_of(shell.pid)) - {shell.pid}
    live = registry.launch(agent, name="frozen", argv=["x"], mode=Mode.ENFORCE, uid=0)
    lab.accept(live.slot)
    assert killswitch.freeze(live).done
    yield live, shell
    assert list(cgroups.members(live.cgroup)) == [agent]
    assert kernel.task_slot(agent) == live.slot
    assert killswitch.is_frozen(live)


def test_who_has_a_process_of_a_session_below_it_cannot_be_attached(frozen, attach, registry):
    live, shell = frozen
    with pytest.raises(AttachError, match=rf"{live.root_pid} .*{live.id} \(frozen\)") as refused:
        attach(shell.pid)
    assert refused.value.mend
    assert registry.live() == [live]


def test_nobody_is_swept_out_of_another_session(frozen, lab, kernel):
    live, shell = frozen
    cgroup = lab.empty_cgroup()
    with pytest.raises(AttachError, match=str(live.root_pid)):
        adopt.sweep(shell.pid, live.slot + 1, kernel, cgroup, adopt.Moves(lab.cgroup_root))
    assert kernel.task_slot(shell.pid) == 0
    cgroup.rmdir()


@pytest.mark.parametrize("place", ["free", "shared"])
@pytest.mark.parametrize("which", ["real", "effective", "saved"])
def test_who_has_a_process_of_another_user_below_it_is_refused_whole(
    request, registry, place, which, lab, kernel
):
    where = request.getfixturevalue(place)
    tree = where.ready("family", "owners", "3", which)
    there, before = set(lab.base.iterdir()), set(cgroups.members(where.cgroup))
    [foreign] = [p for p in adopt.tree_of(tree.pid) if 3 in psutil.Process(p).uids()]
    with pytest.raises(NotAllowedError, match=f"{foreign} belongs to uid 3") as refused:
        registry.attach(tree.pid, name="agent", mode=Mode.ENFORCE, owner=0)
    assert refused.value.mend
    assert registry.snapshots() == []
    assert set(lab.base.iterdir()) == there
    assert set(cgroups.members(where.cgroup)) == before
    assert {kernel.task_slot(pid) for pid in before} == {0}


@pytest.mark.parametrize("act", ["attach", "launch"])
def test_who_becomes_another_user_s_while_it_is_taken_in_is_given_back(
    act, registry, lab, kernel, shared, monkeypatch
):
    puppet = Puppet(shared.ready("puppet"))
    there, before = set(lab.base.iterdir()), set(cgroups.members(shared.cgroup))
    move = cgroups.move

    def and_become_another(pid, cgroup):
        if cgroup != shared.cgroup:
            puppet("setresuid", 3, 0, 0)
        return move(pid, cgroup)

    monkeypatch.setattr(cgroups, "move", and_become_another)
    more = {"argv": ["a"], "uid": 0} if act == "launch" else {}
    with pytest.raises(NotAllowedError, match=f"{puppet.pid} belongs to uid 3"):
        getattr(registry, act)(puppet.pid, name="agent", mode=Mode.ENFORCE, owner=0, **more)
    assert registry.live() == []
    assert set(lab.base.iterdir()) == there
    assert set(cgroups.members(shared.cgroup)) == before
    assert kernel.task_slot(puppet.pid) == 0


@pytest.mark.parametrize("act", ["attach", "launch"])
def test_a_session_keeps_the_limits_it_had_or_it_is_said_that_it_does_not(
    act, registry, lab, shared, monkeypatch
):
    monkeypatch.setattr(cgroups, "limits_of", lambda *_: {"pids.max": "77"})
    pid = shared.ready("family", "children", "0").pid
    more = {"argv": ["a"], "uid": 0} if act == "launch" else {}
    with capture_logs() as logs:
        live = getattr(registry, act)(pid, name="a", mode=Mode.ENFORCE, **more)
    lab.accept(live.slot)
    if "pids" in (lab.base / "cgroup.controllers").read_text().split():
        assert (live.cgroup / "pids.max").read_text() == "77\n"
        assert logs == []
    else:
        assert [(row["event"], row["limits"]) for row in logs] == [
            ("session.without_limits", ["pids.max"])
        ]


def test_one_user_cannot_take_all_the_slots(free, attach, registry, lab, monkeypatch):
    monkeypatch.setattr(registry_module, "_MAX_OF_ONE", 2)
    for act, more in (("attach", {}), ("launch", {"argv": ["a"], "uid": 0})):
        with lab.session(watched=False) as place:
            pid = place.ready("family", "children", "0").pid
            live = getattr(registry, act)(pid, name="a", mode=Mode.ENFORCE, owner=0, **more)
            lab.accept(live.slot)
    pid = free.ready("family", "children", "0").pid
    for act, more in (("attach", {}), ("launch", {"argv": ["a"], "uid": 0})):
        with pytest.raises(AttachError, match="uid 0 has 2 sessions") as refused:
            getattr(registry, act)(pid, name="a", mode=Mode.ENFORCE, owner=0, **more)
        assert refused.value.mend
    assert len(registry.live()) == 2
    attach(pid)  # root has what is left


def test_a_command_line_is_kept_as_far_as_the_kernel_tells_of_it(registry, lab, free):
    child = free.ready("family", "children", "0")
    argv = ["x", "y" * 5000, *[""] * 9000]
    live = registry.launch(child.pid, name="a", argv=argv, mode=Mode.ENFORCE, uid=0)
    lab.accept(live.slot)
    assert live.snapshot().argv == ("x", "y" * 4094)


@pytest.mark.parametrize("act", ["attach", "launch"])
def test_of_two_who_take_a_process_in_at_once_one_is_refused(act, registry, lab, free, monkeypatch):
    pid = free.ready("family", "children", "0").pid
    both, done = threading.Barrier(2), []
    slot_of = registry.slot_of

    def together(pid):
        found = slot_of(pid)
        with suppress(threading.BrokenBarrierError):  # only one may look at a time
            both.wait(0.5)
        return found

    def take_in():
        more = {"argv": ["a"], "uid": 0} if act == "launch" else {}
        try:
            done.append(getattr(registry, act)(pid, name="agent", mode=Mode.ENFORCE, **more))
        except (AttachError, NotAllowedError) as error:
            done.append(str(error))

    monkeypatch.setattr(registry, "slot_of", together)
    threads = [threading.Thread(target=take_in) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    [live] = registry.live()
    lab.accept(live.slot)
    assert live in done
    assert any("in a session already" in str(told) for told in done)


def test_a_session_that_ends_leaves_nobody_in_scope(free, attach, registry, kernel):
    tree = free.ready("family", "children", "2")
    live = attach(tree.pid)
    members = adopt.tree_of(tree.pid)
    assert registry.close(live, State.EXITED)
    assert not registry.close(live, State.EXITED)
    assert [kernel.task_slot(pid) for pid in members] == [0] * 3
    assert tree.poll() is None


def test_of_a_session_that_ended_a_minute_ago_its_snapshot_is_left(
    free, attach, registry, observer, kernel, lab
):
    live = attach(free.ready("family", "children", "2").pid)
    live.written.add(1, 2)
    for event in registry.pending():
        observer.observe(event)
    lab.evict(live.cgroup)
    assert registry.end(live)
    registry.close(live, State.EXITED)
    told, events = live.snapshot(), list(live.history)
    registry.shed()
    assert list(live.history) == events
    assert len(live.tree) == 3
    assert (1, 2) in live.written
    registry._clock = lambda which: time.clock_gettime_ns(which) + registry_module._WHOLE_NS
    registry.shed()
    assert registry.find(live.id).snapshot() == told
    assert registry.snapshots() == [told]
    assert (len(live.tree), list(live.history), (1, 2) in live.written) == (0, [], False)


def test_of_ended_sessions_only_the_latest_are_kept(free, attach, registry, monkeypatch):
    monkeypatch.setattr(registry_module, "_MAX_ENDED", 2)
    ended = []
    for _ in range(3):
        ended.append(attach(free.ready("family", "children", "0").pid))
        registry.close(ended[-1], State.EXITED)
    assert [known.id for known in registry.snapshots()] == [live.id for live in ended[1:]]
    with pytest.raises(SessionNotFoundError):
        registry.find(ended[0].id)


def test_a_launched_child_is_in_its_cgroup_and_in_scope(registry, lab, kernel, free):
    child = free.ready("family", "children", "0")
    live = registry.launch(child.pid, name="a b/c", argv=["x"], mode=Mode.ENFORCE, uid=0)
    lab.accept(live.slot)
    assert list(cgroups.members(live.cgroup)) == [child.pid]
    assert live.cgroup.parent == lab.base
    assert kernel.task_slot(child.pid) == live.slot
    assert live.name == "a-b-c"
    assert registry.slot_of(child.pid) == live.slot


def test_a_process_that_is_not_there_counts_as_supervised(registry, free):
    supervisor = object.__new__(Supervisor)
    supervisor._registry = registry
    child = free.ready("family", "children", "0")
    assert not supervisor.is_supervised(child.pid)
    child.kill()
    child.wait()
    assert supervisor.is_supervised(child.pid)


def test_files_that_a_launched_child_inherited_become_events(registry, lab, free, scratch):
    (scratch / "inherited").touch()
    child = Puppet(free.ready("puppet"))
    child("openat", CWD, os.fsencode(scratch / "inherited"), os.O_RDWR)
    live = registry.launch(child.pid, name="agent", argv=["x"], mode=Mode.ENFORCE, uid=0)
    lab.accept(live.slot)
    [event] = [e for e in registry.pending() if "inherited" in e.file.path.text]
    assert (event.slot, event.tgid) == (live.slot, child.pid)
    assert event.access == Access.READ | Access.WRITE


def test_a_socket_that_a_launched_child_inherited_is_cut_by_the_quarantine(
    registry, lab, kernel, free
):
    child = Puppet(free.ready("puppet"))
    with listener("127.0.0.1") as server:
        stream = connect(child, address("127.0.0.1", server.getsockname()[1]))
        with server.accept()[0] as accepted:
            live = registry.launch(child.pid, name="agent", argv=["x"], mode=Mode.ENFORCE, uid=0)
            lab.accept(live.slot)
            accepted.settimeout(0.05)
            kernel.quarantine(live.slot, on=True)
            with suppress(PermissionError):
                child.stubborn()("write", stream, b"cut", 3)
            with pytest.raises(TimeoutError):
                accepted.recv(8)


@pytest.mark.parametrize("act", ["attach", "launch"])
def test_what_the_kernel_cannot_follow_is_no_session(
    act, registry, shared, kernel, lab, monkeypatch
):
    def watch(*_, **__):
        raise CaptureError("cannot attach on_sys_exit: Operation not permitted")

    monkeypatch.setattr(kernel, "watch", watch)
    there = set(lab.base.iterdir())
    pid = shared.ready("family", "children", "0").pid
    more = {"argv": ["a"], "uid": 0} if act == "launch" else {}
    with pytest.raises(CaptureError):
        getattr(registry, act)(pid, name="agent", mode=Mode.ENFORCE, **more)
    assert registry.live() == []
    assert set(lab.base.iterdir()) == there
    assert kernel.task_slot(pid) == 0


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ((adopt, "watch_sockets"), AttachError("the kernel does not list sockets")),
        ((cgroups, "move"), OSError(errno.EOPNOTSUPP, "not supported")),
        ((FactMaker, "look_around"), CaptureError("no room in the map")),
    ],
)
def test_a_launch_that_fails_leaves_the_child_where_it_was_and_no_session(
    broken, error, registry, free, kernel, lab, monkeypatch
):
    def fails(*_):
        raise error

    there = set(lab.base.iterdir())
    monkeypatch.setattr(*broken, fails)
    child = free.ready("family", "children", "0")
    with pytest.raises(type(error)):
        registry.launch(child.pid, name="agent", argv=["a"], mode=Mode.ENFORCE, uid=0)
    assert registry.live() == []
    assert kernel.task_slot(child.pid) == 0
    assert list(cgroups.members(free.cgroup)) == [child.pid]
    assert set(lab.base.iterdir()) == there
