# SPDX-License-Identifier: Apache-2.0
"""One act never has more compared than its session may; what is left is known a moment later."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from monitor import events
from monitor.events import Verdict
from monitor.sessions import looks, settle
from monitor.sessions.facts import FactMaker
from monitor.sessions.live import LiveSession
from monitor.sessions.looks import Allowance
from monitor.sessions.observer import Observer
from monitor.sessions.places import HostMounts, Roots, view_of
from monitor.sessions.program import AgentProgram
from monitor.sessions.settle import Settling, Written
from monitor.sessions.watched import WatchedPaths
from monitor.subjects import Mode, Origin, Process

MIB = 1 << 20
LARGE, MOST = 12 * MIB, 16 * MIB
A_ROUND = 2 * 2 * settle._ROUND_BYTES  # of acts and of written files, and of the agent's own


@pytest.fixture(autouse=True)
def most(monkeypatch):
    monkeypatch.setattr(looks, "_MOST_BYTES", MOST)
    monkeypatch.setattr(looks, "_REFILL_BYTES_PER_S", 0)


@pytest.fixture
def agent(here):
    """A large program."""
    path = here / "agent"
    path.write_bytes(os.urandom(MIB) * (LARGE // MIB))
    return path


@pytest.fixture
def session(agent):
    def session(slot):
        live = LiveSession(
            id=f"s{slot}", slot=slot, name="a", mode=Mode.ENFORCE, origin=Origin.LAUNCHED,
            cgroup=Path("/x"), root_pid=2**22 + 1, uid=0, history_events=1,
        )  # fmt: skip
        live.program = AgentProgram([str(agent)], [])
        return live

    return session


@pytest.fixture
def live(session):
    return session(1)


@pytest.fixture
def observer(live):
    mounts = HostMounts()
    maker = FactMaker(WatchedPaths([]), mounts, Roots())
    yield Observer(SimpleNamespace(live_in=lambda _: live), SimpleNamespace(), maker)
    mounts.close()


def decoys(here, live, count):
    """Written by the session; all but the last byte is the agent's."""
    for number in range(count):
        path = here / f"d{number}"
        shutil.copy(here / "agent", path)
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last[0] ^ 1]))
        written(path, live)
    return [f"d{number}" for number in range(count)]


def copy(here, live):
    shutil.copy(here / "agent", here / "copy")
    written(here / "copy", live)
    return "copy"


def written(path, live):
    found = path.stat()
    live.written.add(found.st_dev, found.st_ino)


def ran(here, *words, **more):
    found = os.stat("/bin/true")
    path = events.Path("/bin/true", "/bin/true", found.st_dev)
    values = {
        "tgid": 2**22 + 2, "image": events.File(path, found.st_ino, 0, 0o755, 1), "started_ns": 1,
        "argv": ("true", *words), "argv_truncated": False, "script": "", "parent": 1,
        "cwd": events.Path(str(here), str(here), 0),
    }  # fmt: skip
    return event_of(events.Executed, **values | more)


def event_of(kind, **values):
    common = {"ktime_ns": 1, "egress_bytes": 0, "slot": 1, "tid": 2**22 + 2, "uid": 0, "cut": False}
    values = {**common, "tgid": 2**22 + 2, "view": view_of(os.getpid()), **values}
    return kind(**{n: v for n, v in values.items() if n in kind.__struct_fields__})


def read_bytes():
    with open("/proc/self/io", "rb") as counts:
        return int(counts.readline().split()[1])


def rounds(observer, most=100):
    """What comes of them until nothing waits."""
    found = []
    for _ in range(most):
        before = read_bytes()
        found += observer.settled(0)
        assert read_bytes() - before <= A_ROUND + MIB
        if not observer.settling.deferred():
            return found
    raise AssertionError("it takes for ever")


def test_an_act_that_names_many_large_files_has_no_more_compared_than_may_be(here, live, observer):
    words = decoys(here, live, 16)
    before = read_bytes()
    observation = observer.observe(ran(here, *words))
    assert read_bytes() - before <= 2 * MOST + 2 * MIB
    assert [fact.fields["SelfCopy"] for fact in observation.facts] == [False]
    assert observer.settling.deferred() == [live]
    assert observer.settling.wait_ms(0, 200) == 0
    assert rounds(observer) == []
    assert observer.settling.dropped == 0


def test_a_copy_among_them_is_told_a_moment_later_whatever_became_of_its_name(here, live, observer):
    words = [*decoys(here, live, 5), copy(here, live)]
    observation = observer.observe(ran(here, *words))
    for word in words:
        (here / word).unlink()
    [found] = rounds(observer)
    assert found.event == observation.event
    assert [fact.fields["SelfCopy"] for fact in found.facts] == [True]
    assert found.judged == observation.facts


def test_an_honest_copy_is_told_at_once(here, live, observer):
    observation = observer.observe(ran(here, copy(here, live)))
    assert [fact.fields["SelfCopy"] for fact in observation.facts] == [True]
    assert observer.settling.deferred() == []


def test_what_is_only_considered_leaves_nothing(here, live, observer):
    descriptors = len(os.listdir("/proc/self/fd"))
    observer.consider(ran(here, *decoys(here, live, 3), verdict=Verdict.BEFORE))
    assert observer.settling.deferred() == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_file_that_is_renamed_is_told_with_its_own_name_only(here, live, observer):
    observer.observe(ran(here, *decoys(here, live, 3)))  # nothing is left of the allowance
    copy(here, live)
    names = {
        "source": events.Name(None, str(here / "x")),
        "target": events.Name(None, f"{here}/copy"),
    }
    observer.observe(event_of(events.Renamed, **names))
    [found] = rounds(observer)
    told = [(f.category, f.fields["TargetFilename"], f.fields["SelfCopy"]) for f in found.facts]
    assert told == [("file_rename", str(here / "copy"), True)]


def test_descriptors_of_what_waits_are_bounded_and_given_back(here, live, observer, monkeypatch):
    monkeypatch.setattr(looks, "_MAX_PINNED", 3)
    descriptors = len(os.listdir("/proc/self/fd"))
    observer.observe(ran(here, *decoys(here, live, 8), copy(here, live)))
    assert len(os.listdir("/proc/self/fd")) == descriptors + 3
    assert len(rounds(observer)) == 1
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_sessions_take_turns(here, session, live, observer):
    other = session(2)
    observer.observe(ran(here, *decoys(here, live, 10)))
    event = ran(here, copy(here, other), slot=2)
    observer._registry.live_in = lambda _: other
    other.looks._allowance = Allowance(0)
    observer.observe(event)
    found = []
    for _ in range(2 * -(-LARGE // settle._ROUND_BYTES)):
        found += observer.settled(0)
    assert [one.live.id for one in found] == ["s2"]
    assert observer.settling.deferred() == [live]


def test_who_changes_a_file_all_the_time_keeps_no_other_from_being_looked_at(
    here, live, monkeypatch
):
    monkeypatch.setattr(settle, "_ROUNDS", 4)
    settling, [busy] = Settling(), decoys(here, live, 1)
    copy(here, live)
    for name in (busy, "copy"):
        path = str(here / name)
        settling.add(Written(path, path, (1, 2)), live, Process(pid=1), 0)
    found = []
    for number in range(20):
        os.utime(here / busy, ns=(number, number))
        found += settling.due(settle._DELAYS_NS[0])
    assert [one.file.path for one in found] == [str(here / "copy")]


def test_an_allowance_fills_up_again():
    allowance = Allowance(100, 10_000)
    assert allowance.take(150)
    assert not allowance.take(1)
    time.sleep(0.02)
    assert allowance.take(1)
