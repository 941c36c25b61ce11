# SPDX-License-Identifier: Apache-2.0
"""A connection is its connector's: also when that process has ended, or another has its pid."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from monitor.api import peers

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes a pid namespace; needs root")

CONNECT = """
import socket, sys
socket.socket(fileno=int(sys.argv[1])).connect(sys.argv[2])
print(flush=True)
input()
"""

# In a pid namespace of its own, so that nobody else's pids are turned back.
REUSED = """
import os, signal, socket, sys, time
from pathlib import Path
from monitor.api.peers import Caller

def born(pid, act):
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
    child = os.fork()
    if child == 0:
        act()
        signal.pause()
    assert child == pid

def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    time.sleep(0.1)  # the kernel tells starts apart by hundredths of a second

server, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
server.bind("")
server.listen()
ready, tell = os.pipe()
born(100, lambda: (client.connect(server.getsockname()), os.write(tell, b".")))
os.read(ready, 1)
if sys.argv[1] == "before":
    end(100)
    born(100, lambda: None)
caller = Caller(server.accept()[0], lambda pid: False)
if sys.argv[1] == "after":
    assert not caller.judge().gone
    end(100)
    born(100, lambda: None)
peer = caller.judge()
os.kill(100, signal.SIGKILL)
print(peer.pid, peer.gone)
"""


@pytest.fixture
def by_a_child(api):
    """A connection of ours that a child made, and the child, which waits."""
    with contextlib.ExitStack() as stack:

        def connect():
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(20)
            child = subprocess.Popen(
                [sys.executable, "-c", CONNECT, str(client.fileno()), str(api.socket_path)],
                pass_fds=[client.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.callback(end, child)
            assert child.stdout.readline() == b"\n"
            connection = http.client.HTTPConnection("localhost")
            connection.sock = client
            return connection, child

        yield connect


def end(child):
    child.kill()
    child.communicate()


def answered(connection):
    connection.request("GET", "/api/v1/health")
    response = connection.getresponse()
    return response.status, json.loads(response.read()).get("type", "")


@contextlib.contextmanager
def held_up(api):
    """The server accepts nobody for a while."""
    go = threading.Event()
    api.server._loop.call_soon_threadsafe(go.wait)
    try:
        yield
    finally:
        go.set()


def test_who_has_a_child_connect_and_end_is_refused_and_reported(api, by_a_child):
    connection, child = by_a_child()
    assert answered(connection) == (200, "")
    end(child)
    assert answered(connection) == (403, "urn:estop:problem:caller-gone")
    [knock] = api.control.knocks
    assert (knock.pid, knock.gone, knock.supervised) == (child.pid, True, False)


def test_a_child_that_ended_before_anybody_looked_is_no_way_in(api, by_a_child):
    with held_up(api):
        connection, child = by_a_child()
        end(child)
    assert answered(connection) == (403, "urn:estop:problem:caller-gone")


def test_who_was_seen_to_be_supervised_stays_so_after_its_end(api, by_a_child):
    with held_up(api):
        connection, child = by_a_child()
        api.supervised.add(child.pid)
    with api.local() as client:
        assert client.get("/health").status_code == 200  # and so the child's is accepted
    api.supervised.clear()
    end(child)
    assert answered(connection) == (403, "urn:estop:problem:supervised")


def test_connections_of_who_has_ended_are_as_few_as_those_of_the_supervised(api, by_a_child):
    connections = []
    with held_up(api):
        for _ in range(peers.MAX_SUPERVISED + 1):
            connection, child = by_a_child()
            end(child)
            connections.append(connection)
    assert connections[-1].sock.recv(1) == b""
    assert answered(connections[0])[0] == 403


@needs_root
@pytest.mark.parametrize("when", ["before", "after"])
def test_who_has_the_pid_of_who_connected_is_not_taken_for_it(when):
    """Before and after the connection was accepted."""
    if when == "before" and not peers_are_told_apart():
        pytest.skip("this kernel has no SO_PEERPIDFD")
    words = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", REUSED, when]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["100", "True"]


def peers_are_told_apart():
    one, other = socket.socketpair()
    with one, other, contextlib.suppress(OSError):
        os.close(one.getsockopt(socket.SOL_SOCKET, peers._SO_PEERPIDFD))
        return True
    return False
