# SPDX-License-Identifier: Apache-2.0
"""When a file that was written is looked at: is it a copy by now?"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from monitor.sessions import settle
from monitor.sessions.live import LiveSession, WrittenFiles
from monitor.sessions.program import AgentProgram
from monitor.sessions.settle import Settling, Written
from monitor.subjects import Mode, Origin, Process, State


@pytest.fixture
def live(script):
    live = LiveSession(
        id="s", slot=1, name="a", mode=Mode.ENFORCE, origin=Origin.LAUNCHED, cgroup=Path("/x"),
        root_pid=1, uid=0, history_events=1,
    )  # fmt: skip
    live.program = AgentProgram([str(script)], [])
    return live


def written(path):
    return Written(str(path), str(path), (1, 2))


def test_a_copy_is_reported_once_when_its_time_has_come(live, script, here):
    settling = Settling()
    shutil.copy(script, here / "copy")
    settling.add(written(here / "copy"), live, Process(pid=1), 1000)
    first = 1000 + settle._DELAYS_NS[0]
    assert list(settling.due(first - 1)) == []
    assert [found.file.path for found in settling.due(first)] == [str(here / "copy")]
    assert list(settling.due(10**18)) == []


def test_a_file_is_looked_at_again_until_the_last_delay(live, script, here):
    settling = Settling()
    settling.add(written(here / "copy"), live, Process(pid=1), 0)
    now = 0
    for delay in settle._DELAYS_NS[:-1]:
        now += delay
        assert list(settling.due(now)) == []
    shutil.copy(script, here / "copy")
    assert len(list(settling.due(now + settle._DELAYS_NS[-1]))) == 1


def test_of_many_that_are_due_some_are_looked_at_and_none_is_forgotten(live, script, here):
    settling = Settling()
    shutil.copy(script, here / "copy")
    for number in range(200):
        settling.add(written(here / f"{number}"), live, Process(pid=1), 0)
    settling.add(written(here / "copy"), live, Process(pid=1), 1)
    found = [[one.file.path for one in settling.due(settle._DELAYS_NS[0] + 1)] for _ in range(10)]
    assert found[0] == []  # it is the last of them
    assert [path for paths in found for path in paths] == [str(here / "copy")]


def test_files_that_take_long_to_be_compared_do_not_come_one_after_another(live, here, monkeypatch):
    looked = []

    def slow(path, shown, allowance):
        looked.append(path)
        time.sleep(0.004)
        return False

    monkeypatch.setattr(live.program, "is_copy", slow)
    settling = Settling()
    for number in range(30):
        settling.add(written(here / f"{number}"), live, Process(pid=1), 0)
    assert list(settling.due(settle._DELAYS_NS[0])) == []
    assert len(looked) <= 3
    for _ in range(30):
        assert list(settling.due(settle._DELAYS_NS[0])) == []
    assert len(looked) == 30


def test_after_the_last_look_a_file_is_forgotten_and_may_come_anew(live, here):
    settling = Settling()
    now = 0
    settling.add(written(here / "never"), live, Process(pid=1), now)
    for delay in settle._DELAYS_NS:
        now += delay
        assert list(settling.due(now)) == []
    assert settling.wait_ms(now, 200) == 200
    settling.add(written(here / "never"), live, Process(pid=1), now)
    assert settling.wait_ms(now, 200) < 200


def test_a_file_that_waits_already_waits_once(live, script, here):
    settling = Settling()
    shutil.copy(script, here / "copy")
    for now in (0, 1, 2):
        settling.add(written(here / "copy"), live, Process(pid=1), now)
    assert len(list(settling.due(10**12))) == 1


def test_a_session_that_ended_is_looked_at_no_more(live, here):
    settling = Settling()
    settling.add(written(here / "x"), live, Process(pid=1), 0)
    live.state = State.EXITED
    assert list(settling.due(settle._DELAYS_NS[0])) == []
    assert settling.wait_ms(0, 200) == 200


def test_what_does_not_fit_is_counted(live, monkeypatch):
    monkeypatch.setattr(settle, "_MAX_WAITING", 2)
    settling = Settling()
    for number in range(5):
        settling.add(written(f"/none/{number}"), live, Process(pid=1), 0)
    assert settling.dropped == 3


def test_the_wait_ends_with_the_next_look(live):
    settling = Settling()
    assert settling.wait_ms(0, 200) == 200
    settling.add(written("/none"), live, Process(pid=1), 0)
    assert settling.wait_ms(0, 200) == settle._DELAYS_NS[0] // 1_000_000 + 1
    assert settling.wait_ms(10**12, 200) == 0
    assert settling.wait_ms(0, 1) == 1


def test_of_written_files_the_oldest_is_forgotten_first():
    files = WrittenFiles(limit=2)
    for inode in (1, 2, 1, 3):
        files.add(0, inode)
    assert [(0, inode) in files for inode in (1, 2, 3)] == [True, False, True]
