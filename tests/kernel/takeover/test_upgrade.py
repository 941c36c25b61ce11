# SPDX-License-Identifier: Apache-2.0
"""Programs of another build take over what the old ones followed, looked for and counted."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time

import pytest
import wires
from files import drained, make, opened

from monitor.capture.kernel import load
from monitor.capture.pins import Pins
from monitor.events import Opened, Verdict
from monitor.lowered import Act, Lowered, Watch, Where
from monitor.response.verdicts import Verdicts


@pytest.fixture
def newer(settings, kernel_settings):
    return kernel_settings(events_ring_mib=2, runtime_dir=settings.runtime_dir)


def test_programs_of_another_build_get_the_sessions_before_the_old_ones_go(
    settings, newer, first, scratch
):
    with first.session() as inside, wires.listener() as server:
        puppet = inside.puppet()
        make(puppet, scratch / "earlier")
        first.kernel.quarantine(inside.slot, on=True)
        first.kernel.close(keep=True)
        before = os.listdir(settings.runtime_dir / "bpf")

        stop, let_through = threading.Event(), []

        def knock():
            to = wires.address(*server.getsockname())
            while not stop.is_set():
                fd = puppet("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
                try:
                    puppet("connect", fd, to, len(to))
                    let_through.append(time.monotonic())
                except PermissionError:
                    pass
                puppet("close", fd)

        knocking = threading.Thread(target=knock)
        knocking.start()
        first.kernel = load(newer)
        stop.set()
        knocking.join()
        assert let_through == []

        assert first.kernel.taken_over
        assert first.kernel.sessions() == {inside.slot: inside.cgroup.stat().st_ino}
        after = [n for n in os.listdir(settings.runtime_dir / "bpf") if "." not in n]
        assert len(after) == 1
        assert after[0] not in before
        assert opened(drained(first.kernel), scratch / "earlier") == 1
        with pytest.raises(PermissionError):
            wires.connect(puppet, wires.address(*server.getsockname()))
        first.kernel.quarantine(inside.slot, on=False)
        make(puppet, scratch / "now")
        assert opened(drained(first.kernel), scratch / "now") == 1


def test_what_is_looked_for_is_looked_for_before_the_next_monitor_has_read_its_rules(
    newer, first, scratch
):
    secret = scratch / "secret"
    secret.touch()
    with first.session() as inside:
        puppet = inside.puppet()
        watch = Watch(Where.EXACT, str(secret), Act.READ, Act.NOTHING)
        Verdicts(first.kernel).replace(Lowered(watches=(watch,), operations=("setuid",)))
        first.kernel.close(keep=True)
        first.kernel = load(newer)
        puppet.become("open", os.fsencode(secret) + b"\0", os.O_RDONLY)
        asked = inside.wait(Opened, lambda e: e.file.path.text == str(secret))
        assert asked.verdict & Verdict.CANDIDATE
        assert first.kernel.map("settings").get(0)[7], "operations are held as well"


def test_how_long_the_monitor_is_silent_is_counted_from_the_old_ones_last_beat(newer, first):
    with first.session():
        first.kernel.records.beat()
        time.sleep(0.1)
        first.kernel.close(keep=True)
        first.kernel = load(newer)
        assert first.kernel.beat_age_s() > 0.1


def test_what_was_lost_and_told_to_nobody_is_known(newer, first):
    with first.session():
        first.kernel.map("lost").set((0,), (5,))
        first.kernel.tell_lost(dict.fromkeys(first.kernel.lost(), 2))
        first.kernel.close(keep=True)
        first.kernel = load(newer)
        assert first.kernel.lost()["fork"] == 5
        assert first.kernel.lost_told()["fork"] == 2


def test_a_process_that_ended_unseen_is_not_carried_on(newer, first):
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    with first.session() as inside:
        puppet = inside.puppet()
        first.kernel.watch_task(inside.slot, gone.pid)
        first.kernel.close(keep=True)
        first.kernel = load(newer)
        assert first.kernel.task_slot(gone.pid) == 0
        assert first.kernel.task_slot(puppet.pid) == inside.slot


def test_who_is_killed_while_he_removes_the_old_programs_leaves_no_rows_to_be_taken_for_new_ones(
    settings, newer, first, monkeypatch
):
    def killed(path, *_):
        raise KeyboardInterrupt

    with first.session() as inside:
        first.kernel.close(keep=True)
        with monkeypatch.context() as at_the_first:
            at_the_first.setattr(shutil, "rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                load(newer)
        pins = Pins(settings.runtime_dir)
        assert [g.digest for g in pins.generations()] == [newer.digest()]
        pins.close()
        first.kernel = load(newer)
        assert first.kernel.sessions() == {inside.slot: inside.cgroup.stat().st_ino}
        assert [n for n in os.listdir(settings.runtime_dir / "bpf") if n.startswith("new")] == []


def test_a_generation_that_lost_a_program_is_replaced(settings, first):
    with first.session() as inside:
        [generation] = first.kernel._pins.generations()
        first.kernel.close(keep=True)
        (generation.path / "links" / "on_exec").unlink()
        first.kernel = load(settings)
        assert all(first.kernel.programs().values())
        assert "on_exec" in first.kernel.programs()
        assert first.kernel.sessions() == {inside.slot: inside.cgroup.stat().st_ino}
        [replaced] = first.kernel._pins.generations()
        assert replaced.number == generation.number + 1
