# SPDX-License-Identifier: Apache-2.0
"""Looks at files whose server (FUSE) does not answer: they end in time, and nothing is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from agent.private_monitor import until
from monitor.capture.opengate import OpenGate
from monitor.errors import StoreError
from monitor.looking import Looker, UnansweredError, _Thread
from monitor.procfs import is_zombie
from monitor.record.lock import StateLock
from monitor.served import Served, open_at_hand
from tests.bench.figures import compiled

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="this kernel has no FUSE"),
]

_SERVED = Path(__file__).with_name("programs") / "served.c"


class Server:
    """Serves `mount`; who is not of its own session gets no answer, or everybody does."""

    def __init__(self, scratch: Path, answers: str) -> None:
        self.mount = scratch / "mnt"
        self.mount.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [compiled(scratch, _SERVED), self.mount, answers],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"served\n"

    def signal(self, number: int) -> None:
        os.killpg(self._process.pid, number)

    def end(self) -> None:
        self.signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        subprocess.run(["umount", "--lazy", self.mount], check=True)


@pytest.fixture
def serve(tmp_path):
    servers = []

    def serve(answers: str) -> Server:
        servers.append(Server(tmp_path, answers))
        return servers[-1]

    yield serve
    for server in servers:
        server.end()


@pytest.fixture
def served():
    with closing(Served()) as served:
        yield served


@pytest.fixture
def looker(served):
    with closing(Looker(served)) as looker:
        yield looker


def _took_s(act) -> float:
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


def _unanswered(looker: Looker, path: Path, whose: object = 1) -> None:
    with pytest.raises(UnansweredError):
        looker.look(lambda: os.stat(path), whose)


def test_who_answers_is_waited_for(serve, looker):
    server = serve("all")
    assert looker.look(lambda: os.stat(server.mount / "x").st_size, 1) == len("served\n")
    with pytest.raises(FileNotFoundError):
        looker.look(lambda: os.stat("/no/such/file"), 1)


def test_who_does_not_answer_is_waited_for_once_and_others_are_not_kept(serve, looker):
    server = serve("own")
    assert _took_s(lambda: _unanswered(looker, server.mount / "x")) < 1
    assert _took_s(lambda: _unanswered(looker, server.mount / "y")) < 0.05
    assert looker.look(lambda: os.stat("/").st_ino, 2) == os.stat("/").st_ino


def test_a_server_that_stands_still_is_waited_for_again_once_it_goes_on(serve, looker):
    server = serve("all")
    server.signal(signal.SIGSTOP)
    _unanswered(looker, server.mount / "x")
    server.signal(signal.SIGCONT)

    def is_answered() -> bool:
        with suppress(UnansweredError):
            return looker.look(lambda: os.stat(server.mount / "x").st_size, 1) > 0
        return False

    assert until(is_answered, 10)


def test_what_a_look_was_about_to_do_is_not_done_after_a_late_answer(serve, looker):
    server, done = serve("all"), []

    def look() -> None:
        os.stat(server.mount / "x")
        done.append("written by somebody who was given up")

    server.signal(signal.SIGSTOP)
    with pytest.raises(UnansweredError):
        looker.look(look, 1)
    server.signal(signal.SIGCONT)
    [(thread, _)] = looker._asleep.values()
    thread.join(10)
    assert not thread.is_alive()
    assert done == []


def test_a_server_that_comes_while_somebody_looks_is_aborted(serve, served, looker):
    """Nobody can be told beforehand: the look is this thread's."""

    def look() -> None:
        server = serve("own")
        assert served.by_sessions()
        os.stat(server.mount / "x")

    served.are_strangers()  # whoever serves on this machine already
    with pytest.raises(UnansweredError):
        looker.look(look, 1)
    assert looker.look(lambda: 7, 1) == 7  # it was not left behind: the next one is asked at once


def test_who_served_before_any_session_is_waited_for_here(serve, served, looker):
    server = serve("all")
    assert served.by_sessions()
    served.are_strangers()
    assert not served.by_sessions()
    server.signal(signal.SIGSTOP)
    resumed = subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT -{server._process.pid}"])
    assert looker.look(lambda: os.stat(server.mount / "x").st_size, 1)
    resumed.wait()


def test_devices_are_those_of_stat(serve, served):
    server = serve("all")
    assert os.stat(server.mount).st_dev in served.devices()
    assert os.stat("/").st_dev not in served.devices()


def test_nothing_is_asked_for_what_is_at_hand(serve):
    server = serve("own")
    with pytest.raises(BlockingIOError):
        open_at_hand(str(server.mount / "x"))
    os.stat("/etc/passwd")  # now the kernel knows it
    os.close(open_at_hand("/etc/passwd"))
    directory = os.open("/etc", os.O_PATH)
    try:
        os.close(open_at_hand(f"/proc/{os.getpid()}/fd/{directory}/passwd"))
        os.close(open_at_hand(f"/proc/{os.getpid()}/root/etc/passwd"))
    finally:
        os.close(directory)


def test_the_gate_marks_nothing_that_it_would_have_to_ask_for(serve, tmp_path):
    with closing(OpenGate()) as gate:
        server = serve("own")
        begun = time.monotonic()
        reason = gate.mark(str(server.mount / "x"))
        assert time.monotonic() - begun < 1
        assert "hold the monitor" in reason
        (tmp_path / "plain").touch()
        assert gate.mark(str(tmp_path / "plain")) == ""
        assert len(gate) == 1


_HOLDER = """
    import os, sys
    from pathlib import Path
    from monitor.looking import Looker, Served, UnansweredError
    from monitor.record.lock import StateLock
    with StateLock(Path(sys.argv[1])):
        try:
            Looker(Served()).look(lambda: os.stat(sys.argv[2]), 1)
        except UnansweredError:
            print("unanswered", flush=True)
        sys.stdin.read()
"""


def test_a_monitor_that_was_killed_while_it_waited_gives_way_to_the_next(serve, tmp_path):
    server = serve("own")
    state = tmp_path / "state"
    words = [sys.executable, "-c", textwrap.dedent(_HOLDER), state, server.mount / "x"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"unanswered\n"
        with pytest.raises(StoreError), StateLock(state):  # it lives
            pass
        killed.kill()
        assert until(lambda: is_zombie(killed.pid), 10)
        with StateLock(state):
            assert killed.wait(5) == -signal.SIGKILL


def test_a_monitor_that_ends_leaves_no_thread_behind(serve, served):
    server, looker = serve("own"), Looker(served)
    _unanswered(looker, server.mount / "x")
    [(thread, _)] = looker._asleep.values()
    assert thread.is_alive()
    looker.close()
    assert not thread.is_alive()


def test_a_thread_that_answers_just_too_late_ends_too():
    thread = _Thread()

    class TooLate(SimpleQueue):
        def get(self, timeout):
            assert until(lambda: not self.empty(), 10)
            time.sleep(0.1)  # it waits for the next question by now
            raise Empty

    thread._told = TooLate()
    with pytest.raises(UnansweredError):
        thread.ask(lambda: 7, 0.1)
    thread.join(10)
    assert not thread.is_alive()
