# SPDX-License-Identifier: Apache-2.0
"""What a monitor leaves in the kernel, and what the next one finds there."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import wires
from files import drained, make, opened
from laboratory import until
from states import is_stopped

from monitor.capture import bpffs
from monitor.capture.kernel import load
from monitor.capture.pins import unload
from monitor.capture.programs import resting
from monitor.errors import CaptureError
from monitor.response.holds import Reason
from monitor.sessions import cgroups

BPF = Path(__file__).parents[3] / "bpf"


def test_what_was_read_and_not_committed_is_read_again_and_what_was_committed_is_not(
    settings, first, scratch
):
    with first.session() as inside:
        puppet = inside.puppet()
        make(puppet, scratch / "settled")
        assert opened(drained(first.kernel), scratch / "settled") == 1
        first.kernel.records.commit()
        make(puppet, scratch / "open")
        records = drained(first.kernel)
        assert opened(records, scratch / "open") == 1
        first.kernel.close(keep=True)

        first.kernel = load(settings)
        assert first.kernel.taken_over
        assert drained(first.kernel) == records
        first.kernel.records.commit()
        assert drained(first.kernel) == []


def test_an_alarm_is_seen_ahead_once_and_read_in_its_turn(first, scratch):
    kernel = first.kernel
    with first.session() as inside:
        puppet = inside.puppet()
        drained(kernel)
        assert kernel.records.ahead() == []
        puppet("memfd_create", puppet.place(b"first\0"), 0)
        ahead = kernel.records.ahead()
        assert len(ahead) == 1
        assert kernel.records.ahead() == []
        make(puppet, scratch / "file")
        assert kernel.records.ahead() == []  # no alarm
        puppet("memfd_create", puppet.place(b"second\0"), 0)
        ahead += kernel.records.ahead()
        assert len(ahead) == 2
        records = drained(kernel)
        assert [r for r in records if r in ahead] == ahead
        assert opened(records, scratch / "file") == 1
        assert kernel.records.ahead() == []


def test_a_commit_may_stop_at_a_mark(settings, first, scratch):
    with first.session() as inside:
        puppet = inside.puppet()
        make(puppet, scratch / "before")
        drained(first.kernel)
        mark = first.kernel.records.mark()
        make(puppet, scratch / "behind")
        drained(first.kernel)
        first.kernel.records.commit(mark)
        first.kernel.close(keep=True)

        first.kernel = load(settings)
        records = drained(first.kernel)
        assert opened(records, scratch / "before") == 0
        assert opened(records, scratch / "behind") == 1


def test_while_nobody_serves_it_a_session_is_followed_and_stays_cut(settings, first, scratch):
    with first.session() as inside, wires.listener() as server:
        puppet = inside.puppet()
        first.kernel.quarantine(inside.slot, on=True)
        first.kernel.close(keep=True)

        with pytest.raises(PermissionError):
            wires.connect(puppet, wires.address(*server.getsockname()))
        puppet.become("open", os.fsencode(scratch / "meanwhile") + b"\0", os.O_CREAT, 0o600)
        assert until(lambda: is_stopped(puppet.pid))

        first.kernel = load(settings)
        cgroup_id = inside.cgroup.stat().st_ino
        assert first.kernel.sessions() == {inside.slot: cgroup_id}
        assert first.kernel.task_slot(puppet.pid) == inside.slot
        level = cgroups.level_of(inside.cgroup, first.cgroup_root)
        first.kernel.watch(inside.slot, cgroup_id, level)
        first.kernel.watch_task(inside.slot, puppet.pid)
        os.kill(puppet.pid, signal.SIGCONT)
        assert puppet.answer() >= 0
        with pytest.raises(PermissionError):
            wires.connect(puppet, wires.address(*server.getsockname()))
        assert opened(drained(first.kernel), scratch / "meanwhile") == 1
        first.kernel.quarantine(inside.slot, on=False)
        wires.connect(puppet, wires.address(*server.getsockname()))


def hanging(kernel):
    """Programs that are pinned where they hang, and all of them do."""
    programs = kernel.programs()
    assert all(programs.values())
    [generation] = kernel._pins.generations()
    assert sorted(os.listdir(generation.path / "links")) == sorted(programs)
    return set(programs)


def test_what_every_process_is_asked_by_hangs_there_only_while_there_is_a_session(
    settings, first, monkeypatch
):
    kernel, asked = first.kernel, set(resting(first.kernel.tier)) - {*first.kernel.missing}
    assert asked
    assert not hanging(kernel) & asked
    with first.session(), first.session():
        assert hanging(kernel) > asked
    kernel.rest()
    assert hanging(kernel) > asked, "the next session may follow at once"
    monkeypatch.setattr("monitor.capture.attached._REST_S", 0.0)
    with first.session():
        kernel.rest()
        assert hanging(kernel) > asked, "there is a session"
    kernel.rest()
    assert not hanging(kernel) & asked
    with first.session():
        assert hanging(kernel) > asked


def test_a_killed_monitor_leaves_all_that_its_sessions_need_and_another_takes_it_down(
    settings, first, monkeypatch
):
    with first.session() as inside:
        before = hanging(first.kernel)
        first.kernel.close(keep=True)
        first.kernel = load(settings)
        assert hanging(first.kernel) == before
        assert first.kernel.sessions() == {inside.slot: inside.cgroup.stat().st_ino}
    monkeypatch.setattr("monitor.capture.attached._REST_S", 0.0)
    first.kernel.rest()
    assert hanging(first.kernel) < before


def test_who_was_killed_while_he_hung_up_programs_is_taken_over(settings, first):
    with first.session():
        [generation] = first.kernel._pins.generations()
        before = hanging(first.kernel)
        first.kernel.close(keep=True)
        (generation.path / "links" / resting(first.kernel.tier)[-1]).unlink()
        first.kernel = load(settings)
        assert hanging(first.kernel) == before
        assert [g.number for g in first.kernel._pins.generations()] == [generation.number]


def test_a_record_behind_one_that_is_held_is_seen_within_milliseconds(first, scratch):
    with first.session() as inside:
        puppet = inside.puppet()
        make(puppet, scratch / "held")
        drained(first.kernel)  # and not committed: the kernel wakes nobody now
        start = time.monotonic()
        assert first.kernel.records.read(4) == []
        assert time.monotonic() - start > 0.003, "it spins: poll says that there is something"
        seen = threading.Event()

        def wait():
            while not seen.is_set():
                if opened(first.kernel.records.read(1000), scratch / "next"):
                    seen.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.05)
        make(puppet, scratch / "next")
        assert seen.wait(0.5)
        waiting.join()


def test_who_holds_everything_back_does_not_fill_the_ring(first, scratch):
    with first.session() as inside:
        before = first.kernel.lost()
        process = inside.start("flood", "files", scratch, "12000")
        read = 0
        while process.poll() is None or first.kernel.records.behind:
            read += len(first.kernel.records.read(1))  # and never commit
        read += len(drained(first.kernel))
        lost = {h: n - before[h] for h, n in first.kernel.lost().items() if n != before[h]}
        assert read > 12000, lost  # some 5 MB went through a ring of one
        events = first.kernel.records._rings[0]
        assert events.held_bytes <= events.size_bytes // 2


def test_a_second_monitor_on_the_same_runtime_directory_is_refused(settings, first):
    with pytest.raises(CaptureError, match="another estop daemon"):
        load(settings)
    with pytest.raises(CaptureError, match="another estop daemon"):
        unload(settings.runtime_dir)


def test_unload_takes_away_what_was_left(settings, first):
    with first.session() as inside:
        first.kernel.close(keep=True)
        assert bpffs.is_mounted(settings.runtime_dir / "bpf")
        assert unload(settings.runtime_dir) == []
        assert not list(settings.runtime_dir.iterdir())
        assert unload(settings.runtime_dir) is None
        first.kernel = load(settings)
        assert not first.kernel.taken_over
        assert first.kernel.sessions() == {}
        assert inside.cgroup.exists()


@pytest.mark.parametrize("stopped", [False, True])
def test_unload_names_who_waited_for_a_monitor_and_nobody_of_a_stopped_session(
    settings, first, stopped
):
    with first.session() as inside:
        held = first.kernel.map("held")
        held.set((inside.puppet().pid,), (inside.slot, Reason.SILENCE, 1))
        [(waiting,)] = held.keys()
        first.kernel.quarantine(inside.slot, on=stopped)
        first.kernel.close(keep=True)
        assert unload(settings.runtime_dir) == ([] if stopped else [waiting])
        first.kernel = load(settings)


def test_what_a_loader_left_half_done_is_removed(settings):
    with load(settings) as kernel:
        half = kernel._pins.directory / "new_0123_7"
        half.mkdir()
        kernel.close(keep=True)
    with load(settings):
        assert not half.exists()


def test_what_is_in_the_way_is_named(settings):
    pins = settings.runtime_dir / "bpf"
    pins.mkdir()
    (pins / "mine.txt").write_text("")
    with pytest.raises(CaptureError, match=r"not a bpffs and holds mine.txt"):
        load(settings)
    shutil.rmtree(pins)
    bpffs.mount(pins)
    (pins / "stranger").mkdir()
    with pytest.raises(CaptureError, match="stranger is not estop's"):
        load(settings)
    (pins / "stranger").rmdir()


def test_programs_that_do_not_compile_are_an_error_with_the_compilers_word(settings, tmp_path):
    broken = tmp_path / "bpf"
    shutil.copytree(BPF, broken)
    with (broken / "privilege.bpf.c").open("a") as file:
        file.write("int on_nonsense(void) { return missing; }\n")
    with pytest.raises(CaptureError, match="missing"):
        load(type(settings)(**{**vars(settings), "source": broken}))
    assert not list(settings.runtime_dir.iterdir())


def test_the_pins_are_closed_to_everybody_else(settings, first):
    found = (settings.runtime_dir / "bpf").stat()
    assert found.st_mode & 0o077 == 0
    assert found.st_uid == os.geteuid()
