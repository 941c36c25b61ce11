# SPDX-License-Identifier: Apache-2.0
"""Sockets: made, refused, taken over from a dead monitor, removed."""

from __future__ import annotations

import socket
import stat

import pytest

from monitor.api.app import create_app
from monitor.api.server import Server
from monitor.errors import ConfigError
from monitor.metrics import Metrics


@pytest.fixture
def another(api):
    """A second server over the same parts."""

    def make(socket_path, address=None):
        app = create_app(api.control, api.store, metrics=Metrics())
        return Server(app, socket_path=socket_path, address=address)

    return make


def test_anybody_can_knock_but_only_the_monitor_can_replace_the_socket(api):
    assert stat.S_IMODE(api.socket_path.stat().st_mode) == 0o666
    assert stat.S_IMODE(api.socket_path.parent.stat().st_mode) == 0o755


def test_a_second_monitor_on_the_same_socket_is_refused_by_path(api, another):
    with pytest.raises(ConfigError, match=str(api.socket_path)) as caught:
        another(api.socket_path).start()
    assert "--runtime-dir" in caught.value.mend
    with api.local() as client:
        assert client.get("/health").status_code == 200


def test_a_socket_left_by_a_killed_monitor_is_taken_over(another, tmp_path):
    path = tmp_path / "estop.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = another(path)
    server.start()
    assert server.alive
    server.stop()
    assert not server.alive
    assert not path.exists()


def test_a_file_in_the_sockets_place_is_not_removed(another, tmp_path):
    path = tmp_path / "estop.sock"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is not a socket"):
        another(path).start()
    assert path.read_text() == "mine"


def test_a_port_in_use_is_named_with_a_way_out_and_nothing_is_left(api, another, tmp_path):
    port = api.server.address[1]
    path = tmp_path / "estop.sock"
    with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is in use") as caught:
        another(path, ("127.0.0.1", port)).start()
    assert "--listen" in caught.value.mend
    assert not path.exists()


def test_a_runtime_directory_that_others_may_write_is_refused(another, tmp_path):
    runtime = tmp_path / "open"
    runtime.mkdir()
    runtime.chmod(0o777)
    with pytest.raises(ConfigError, match="others may write"):
        another(runtime / "estop.sock").start()


def test_a_path_too_long_for_a_socket_is_named(another, tmp_path):
    with pytest.raises(ConfigError, match="cannot make the socket"):
        another(tmp_path / ("x" * 120) / "estop.sock").start()


def test_two_servers_in_one_process_do_not_meet(api, another, tmp_path):
    server = another(tmp_path / "other" / "estop.sock", ("127.0.0.1", 0))
    server.start()
    assert server.address != api.server.address
    server.stop()
    with api.local() as client:
        assert client.get("/health").status_code == 200
