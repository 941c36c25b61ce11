# SPDX-License-Identifier: Apache-2.0
"""Who may ask what: by the kernel's word on the unix socket, by the token on TCP."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time

import httpx
import pytest

from monitor.api import peers
from monitor.api.peers import MAX_PER_USER, MAX_SUPERVISED
from monitor.control import Peer
from monitor.subjects import State

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user; needs root")

ASK = """
import http.client, os, socket, sys
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
for line in sys.argv[3:]:
    method, path = line.split()
    connection.request(method, path, headers={"Content-Length": "0"})
    response = connection.getresponse()
    print(response.status, response.read().decode())
"""

PATHS = [
    "GET /api/v1/sessions",
    "GET /api/v1/health",
    "GET /api/v1/openapi.json",
    "GET /api/v1/alerts/stream",
    "GET /metrics",
    "GET /nothing",
    "POST /api/v1/sessions/s1/resume",
]


@pytest.fixture
def ask(api):
    """Ask as another user, from within the socket's directory: those above it are private, and pytest, of
    which another run may start at any time, makes them so again."""

    def run(uid, *lines):
        api.socket_path.parent.chmod(0o711)
        done = subprocess.run(
            [sys.executable, "-c", ASK, api.socket_path.name, str(uid), *lines],
            cwd=api.socket_path.parent,
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert not done.returncode, done.stderr
        return [line.split(" ", 1) for line in done.stdout.splitlines()]

    return run


def test_without_a_token_tcp_is_401_and_says_what_to_send(api):
    with api.tcp(token="") as client:
        response = client.get("/sessions")
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert "Authorization: Bearer" in response.json()["mend"]


def test_a_wrong_token_is_a_clear_error(api):
    with api.tcp(token="x" * 43) as client:
        response = client.get("/sessions")
    assert response.status_code == 401
    assert response.json()["detail"] == "the token is wrong"


def test_guessing_is_slowed_down_and_the_right_token_still_works(api):
    with api.tcp(token="", headers={"Authorization": b"Bearer \xe9\xff"}) as client:
        statuses = [client.get("/sessions").status_code for _ in range(12)]
        last = client.get("/sessions")
    assert statuses == [401] * 10 + [429] * 2
    assert int(last.headers["retry-after"]) > 0
    with api.tcp() as client:
        assert client.get("/sessions").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example"])
def test_a_host_name_that_is_not_loopback_is_refused_even_with_the_token(api, host):
    with api.tcp(headers={"Host": host}) as client:
        assert client.get("/sessions").status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:7878"])
def test_a_loopback_name_is_served(api, host):
    with api.tcp(headers={"Host": host}) as client:
        assert client.get("/sessions").status_code == 200


def test_the_token_sees_and_stops_every_session(api):
    api.control.add("s1", uid=1234)
    with api.tcp() as client:
        assert len(client.get("/sessions").json()) == 1
        assert client.post("/sessions/s1/kill").json()["who"] == "token test"


def test_a_supervised_process_is_refused_everywhere_and_reported(api):
    api.control.add("s1", state=State.FROZEN)
    with api.local() as client:
        assert client.get("/sessions").status_code == 200
        # The connection is older than the supervision, as after `estop attach`.
        api.supervised.add(os.getpid())
        for line in PATHS:
            method, path = line.split()
            response = client.request(method, f"http://localhost{path}")
            assert response.status_code == 403, path
            assert response.json()["type"] == "urn:estop:problem:supervised"
    assert len(api.control.knocks) == len(PATHS)
    assert api.control.knocks[0].pid == os.getpid()
    assert api.control.knocks[0].name.startswith("uid ")
    assert api.control.known["s1"].state is State.FROZEN


def test_a_supervised_process_on_tcp_is_refused_even_with_the_right_token(api):
    api.behind_tcp = Peer(uid=1000, pid=77, supervised=True)
    with api.tcp() as client:
        assert client.get("/sessions").status_code == 403
    assert [peer.pid for peer in api.control.knocks] == [77]


def test_a_tcp_client_cannot_lie_about_its_address(api):
    with api.tcp(headers={"X-Forwarded-For": "192.0.2.7"}) as client:
        assert client.get("/health").status_code == 200
    ((host, port),) = api.addresses
    assert host == "127.0.0.1"
    assert port != api.server.address[1]


@needs_root
def test_another_user_sees_and_stops_only_own_sessions(api, ask):
    api.control.add("mine", uid=1234)
    api.control.add("theirs", uid=1)
    for session in api.control.sessions():
        api.store.save_session(session)
    api.alert(1, session="mine")
    api.alert(2, session="theirs")
    answers = ask(
        1234,
        "GET /api/v1/sessions",
        "GET /api/v1/sessions/theirs",
        "POST /api/v1/sessions/theirs/kill",
        "POST /api/v1/sessions/name-theirs/kill",
        "GET /api/v1/sessions/theirs/actions",
        "POST /api/v1/sessions/mine/freeze",
        "GET /api/v1/alerts",
        "GET /api/v1/alerts/a1",
        "GET /api/v1/alerts/a2",
        "GET /metrics",
        "POST /api/v1/rules/reload",
        "GET /api/v1/sessions/theirs/facts",
    )
    assert [status for status, _ in answers] == [
        *("200", "404", "404", "404", "404", "200", "200", "200", "404", "403", "403", "404")
    ]
    assert "theirs" not in answers[0][1]
    assert "theirs" not in answers[6][1]
    assert api.control.known["theirs"].state is State.RUNNING
    assert '"who":"uid 1234"' in answers[5][1]


@needs_root
def test_a_name_in_the_session_filter_does_not_show_anothers_alerts(api, ask):
    api.store.save_session(api.control.add("theirs", uid=1))
    api.alert(1, session="theirs")
    for query in ("session=theirs", "uid=1", "since=0"):
        ((status, text),) = ask(1234, f"GET /api/v1/alerts?{query}")
        assert "a1" not in text, (query, status)


def test_a_name_that_two_who_live_have_is_an_error_that_names_both(api):
    api.store.save_session(api.control.add("past", name="claw"))
    api.control.known.clear()
    api.control.add("s1", name="claw")
    api.control.add("s2", name="claw")
    api.control.add("s3", name="claw", state=State.EXITED)
    with api.local() as client:
        refused = client.post("/sessions/claw/freeze")
        assert refused.status_code == 409
        assert refused.json()["type"] == "urn:estop:problem:ambiguous-session"
        assert refused.json()["mend"] == "use an id: s1, s2"
        states = [api.control.known[one].state for one in ("s1", "s2")]
        assert states == [State.RUNNING, State.RUNNING]
        assert client.post("/sessions/s2/freeze").json()["session"]["id"] == "s2"
        api.control.add("s1", name="claw", state=State.KILLED)
        assert client.post("/sessions/claw/kill").json()["session"]["id"] == "s2"


def test_an_id_comes_before_a_name_and_who_ended_last_before_who_ended_first(api):
    for session in ("p1", "p2"):
        api.store.save_session(api.control.add(session, name="claw"))
    api.control.known.clear()
    api.control.add("s1")
    api.control.add("s2", name="s1")
    with api.local() as client:
        assert client.get("/sessions/s1").json()["id"] == "s1"
        assert client.get("/sessions/claw").json()["id"] == "p2"
        assert client.get("/sessions/p1").json()["state"] == "lost"


@needs_root
def test_nobody_can_take_the_name_of_anothers_session(api, ask):
    api.control.add("mine", uid=1234, name="claw")
    api.control.add("theirs", uid=1, name="claw")
    api.store.save_session(api.control.add("past", uid=1, name="old"))
    api.store.save_session(api.control.add("later", uid=1, name="old"))
    del api.control.known["past"], api.control.known["later"]
    (killed, missing) = ask(
        1234, "POST /api/v1/sessions/claw/kill", "POST /api/v1/sessions/old/kill"
    )
    assert killed[0] == "200"
    assert missing[0] == "404"
    assert api.control.known["mine"].state is State.KILLED
    assert api.control.known["theirs"].state is State.RUNNING


def connect(api, count):
    opened = []
    for _ in range(count):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5)
        client.connect(str(api.socket_path))
        opened.append(client)
    return opened


def test_one_user_cannot_use_up_all_connections(api):
    opened = connect(api, MAX_PER_USER + 5)
    assert all(client.recv(1) == b"" for client in opened[MAX_PER_USER:])
    with api.tcp() as client:
        assert client.get("/health").status_code == 200
    for client in opened:
        client.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with api.local() as client:
                assert client.get("/health").status_code == 200
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail("closed connections still count")


HOLD = """
import os, socket, sys
os.setgid(1234); os.setuid(1234)
held = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(int(sys.argv[3]))]
for one in held:
    one.settimeout(10)
print(held[-1].recv(1), flush=True)
input()
"""


@needs_root
def test_another_user_cannot_use_up_the_connections_to_the_console(api, caplog):
    host, port = api.server.address
    words = [sys.executable, "-c", HOLD, host, str(port), str(MAX_PER_USER + 1)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as held:
        assert held.stdout.readline() == b"b''\n"
        with api.tcp() as client:
            assert client.get("/health").status_code == 200
        held.kill()
    assert "turned away: TCP uid 1234" in caplog.text


@pytest.mark.parametrize("way", ["unix", "tcp"])
@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", b"request and half of the next"])
def test_a_connection_over_which_no_whole_request_comes_is_closed(api, way, sent, monkeypatch):
    monkeypatch.setattr(peers, "_REQUEST_S", 0.3)
    path = str(api.socket_path)
    with socket.socket(socket.AF_UNIX if way == "unix" else socket.AF_INET) as client:
        client.settimeout(10)
        client.connect(path if way == "unix" else api.server.address)
        if sent.startswith(b"request"):
            client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert client.recv(10) == b"HTTP/1.1 2"
            sent = b"GET / HTTP"
        client.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(65536):
                pass


def test_a_connection_that_is_answered_slowly_or_used_again_stays_open(api, monkeypatch):
    monkeypatch.setattr(peers, "_REQUEST_S", 0.3)
    with api.local() as client, client.stream("GET", "/alerts/stream") as stream:
        lines = stream.iter_lines()
        next(lines)
        time.sleep(1)
        api.alert(1)
        assert any("a1" in line for line in lines)
    with api.tcp() as client:
        for _ in range(3):
            assert client.get("/health").status_code == 200
            time.sleep(0.5)


def test_an_agent_that_runs_as_root_cannot_use_up_roots_connections(api):
    api.supervised.add(os.getpid())
    opened = connect(api, MAX_PER_USER + 5)
    assert all(client.recv(1) == b"" for client in opened[MAX_SUPERVISED:])
    api.supervised.clear()
    with api.local() as client:
        assert client.get("/health").status_code == 200
    for client in opened:
        client.close()
