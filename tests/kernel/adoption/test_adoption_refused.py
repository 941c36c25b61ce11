# SPDX-License-Identifier: Apache-2.0
"""Who may not be taken in is told why, and stays as and where he was."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from contextlib import suppress

import psutil
import pytest
from calls import opening
from held import watching
from laboratory import Puppet, until
from states import state_of
from structlog.testing import capture_logs

from monitor.errors import AttachError, CaptureError, NotAllowedError
from monitor.lowered import Act, Where
from monitor.sessions import adopt, cgroups
from monitor.sessions import registry as registry_module
from monitor.sessions.facts import FactMaker
from monitor.subjects import Mode

_PR_SET_NAME = 15


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


def test_a_name_that_reads_like_another_user_s_ids_keeps_nobody_out(free, registry, lab):
    puppet = free.puppet()
    puppet("prctl", _PR_SET_NAME, b"Uid:\t3\t3\t3\t3")
    live = registry.attach(puppet.pid, name="agent", mode=Mode.ENFORCE, owner=0)
    lab.accept(live.slot)
    assert live.uid == 0


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


@pytest.mark.parametrize("meanwhile", ["contain", "freeze"])
def test_who_was_held_and_stopped_while_an_attach_failed_goes_on_in_the_cgroup_he_had(
    meanwhile, registry, free, lab, verdicts, killswitch, scratch, monkeypatch
):
    """Nobody follows him then, so nobody would answer, and nobody could resume him."""
    secret = scratch / "secret"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ)
    puppet = free.puppet()

    def fails(_facts, live):
        lab.accept(live.slot)
        puppet.become(*opening(puppet, secret))
        assert until(lambda: state_of(puppet.pid) == "T")
        getattr(killswitch, meanwhile)(live)
        assert (free.cgroup / "cgroup.freeze").read_text() == "1\n"
        raise CaptureError("no room in the map")

    monkeypatch.setattr(FactMaker, "look_around", fails)
    with pytest.raises(CaptureError):
        registry.attach(puppet.pid, name="agent", mode=Mode.ENFORCE)
    assert (free.cgroup / "cgroup.freeze").read_text() == "0\n"
    assert until(lambda: state_of(puppet.pid) != "T")
    assert puppet.answer() >= 0
