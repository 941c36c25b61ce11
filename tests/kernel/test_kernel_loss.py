# SPDX-License-Identifier: Apache-2.0
"""What does not fit is counted where it was lost, and takes no alarm with it; what ends is gone."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from laboratory import Inside, Laboratory, until

from monitor.capture import bpf
from monitor.capture.kernel import load
from monitor.capture.programs import programs_of
from monitor.events import Executed, Forked, Opened, Privileged
from monitor.sessions import cgroups


@pytest.fixture(scope="module")
def small(kernel_settings, tmp_path_factory):
    """Rings of a megabyte, which nobody reads until told to."""
    with load(kernel_settings(events_ring_mib=1)) as kernel:
        laboratory = Laboratory(kernel, cgroups.find_root(), tmp_path_factory.mktemp("small"))
        try:
            yield laboratory
        finally:
            laboratory.close()


@pytest.fixture
def flooded(small):
    with small.session() as session:
        yield session


def newly_lost(kernel, before):
    return {hook: n - before[hook] for hook, n in kernel.lost().items() if n != before[hook]}


def test_a_flood_is_counted_as_such_and_loses_no_alarm(small, flooded, scratch):
    before = small.kernel.lost()
    flooded.run("flood", "files", scratch, "4000")
    puppet_alarm = flooded.start("flood", "memfds", "3")
    puppet_alarm.wait()
    lost = newly_lost(small.kernel, before)
    assert set(lost) <= {"open", "name", "exec"}
    assert lost["open"] > 100
    events = flooded.events()
    assert [e.text for e in events if isinstance(e, Privileged)] == ["flood"] * 3
    # Opens and unlinks: each was sent or counted.
    sent = [e for e in events if type(e).__name__ in {"Opened", "Unlinked"}]
    assert len(sent) + lost["open"] + lost["name"] == 8000


def seen_and_left(kernel):
    """The monitor looks, and is not done with what it saw."""
    kernel.records.left = kernel.records.read(0)


def test_a_flood_of_opens_leaves_room_for_all_else_and_is_laid_at_its_door(small, flooded, scratch):
    kernel = small.kernel
    before = kernel.lost()
    with small.session() as other:
        flooded.run("flood", "opens", scratch, "2800")
        seen_and_left(kernel)
        flooded.run("flood", "opens", scratch, "9000")
        for _ in range(50):
            other.run("flood", "files", scratch / "none", "1")
        over = kernel.over_budget(flooded.slot)
        assert over >= 9000 - 2800  # what was opened a moment before is no news
        assert newly_lost(kernel, before) == {"budget": over + kernel.over_budget(other.slot)}
        assert len(other.events(Executed)) == 50
        flooded.run("flood", "opens", scratch, "10000")  # all was read: there is room
        assert kernel.over_budget(flooded.slot) == over


def test_a_session_begins_with_no_flood_of_who_had_its_slot(small, scratch):
    with small.session() as first:
        first.run("flood", "opens", scratch, "2800")
        seen_and_left(small.kernel)
        first.run("flood", "opens", scratch, "9000")
    assert small.kernel.over_budget(first.slot) > 0
    second = Inside(small, first.slot, small.empty_cgroup())
    second.watch()
    assert small.kernel.over_budget(second.slot) == 0
    second.end()
    small.collect()


def test_a_flood_of_alarms_is_counted_as_such(small, flooded):
    before = small.kernel.lost()
    flooded.run("flood", "memfds", "9000")
    lost = newly_lost(small.kernel, before)
    assert lost["privileged"] > 0
    sent = flooded.events(Privileged)
    assert len(sent) + lost["privileged"] == 9000


def test_after_a_loss_events_come_again(small, flooded, scratch):
    flooded.run("flood", "files", scratch, "4000")
    flooded.forget_events()
    before = small.kernel.lost()
    flooded.run("flood", "memfds", "1")
    assert len(flooded.events(Privileged)) == 1
    assert newly_lost(small.kernel, before) == {}


def own_ids(kind):
    """Ids of the kernel's objects of that kind that this process holds descriptors of."""
    found = set()
    for info in Path("/proc/self/fdinfo").iterdir():
        try:
            lines = info.read_text().splitlines()
        except OSError:
            continue  # the descriptor of this very listing
        rows = dict(line.split(":", 1) for line in lines if ":" in line)
        if f"{kind}_id" in rows:
            found.add(int(rows[f"{kind}_id"]))
    return found


def kernels_ids(kind):
    command = ["bpftool", "-j", kind, "list"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {row["id"] for row in json.loads(out)}


def tail_called(kernel):
    """Ids of the programs that no link keeps: the pinned map of handlers does."""
    number = struct.Struct("<I")
    with closing(bpf.Map(kernel._generation.map("handlers"), number, number)) as handlers:
        return {program for _, (program,) in handlers.items()}


def test_after_close_nothing_of_ours_is_attached_or_loaded(kernel_settings):
    before = {kind: own_ids(kind) for kind in ("prog", "link", "map")}
    descriptors = len(os.listdir("/proc/self/fd"))
    settings = kernel_settings()
    with load(settings) as kernel:
        kernel._attached.wake()
        ours = {kind: own_ids(kind) - before[kind] for kind in before}
        ours["prog"] |= tail_called(kernel)
        assert len(ours["prog"]) == len(programs_of(kernel.tier))
        assert len(ours["link"]) == len(kernel.programs())
        assert ours["prog"] <= kernels_ids("prog")
    for kind, ids in ours.items():
        assert until(lambda kind=kind, ids=ids: not ids & kernels_ids(kind)), kind
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert not list(settings.runtime_dir.iterdir())


def test_of_400000_opens_every_file_is_seen_once_and_every_child_too(inside, kernel, scratch):
    files, opens, children = 2_000, 400_000, 100
    for number in range(files):
        (scratch / str(number)).touch()
    before = kernel.lost()
    words = (str(scratch), str(files), str(opens), str(children))
    assert inside.start("reopens", *words).wait(60) == 0
    events = inside.events()
    seen = Counter(e.file.path.text for e in events if isinstance(e, Opened))
    ours = {path: times for path, times in seen.items() if path.startswith(f"{scratch}/")}
    assert ours == {f"{scratch}/{number}": 1 for number in range(files)}
    assert sum(isinstance(e, Forked) for e in events) == children
    assert kernel.lost() == before
