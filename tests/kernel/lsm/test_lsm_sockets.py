# SPDX-License-Identifier: Apache-2.0
"""Sockets past the network cut and watched local ones are refused, all others work."""

from __future__ import annotations

import os
import socket
import struct

import pytest
from refusals import told
from wires import address, connect, listener

from monitor.events import Privileged, UnixConnected
from monitor.lowered import Lowered, SocketWatch, Where

pytestmark = pytest.mark.tier("lsm")


@pytest.mark.parametrize("family", [socket.AF_PACKET, socket.AF_VSOCK, 38])
def test_sockets_past_the_network_cut_are_refused(inside, puppet, family):
    with pytest.raises(PermissionError):
        puppet("socket", family, socket.SOCK_RAW, 0)
    assert inside.wait(Privileged).operation == "socket"
    assert puppet("socket", socket.AF_INET, socket.SOCK_STREAM, 0) >= 0


def test_a_watched_local_socket_is_refused_by_its_own_name(inside, puppet, verdicts, scratch):
    path = scratch / "docker.sock"
    link = scratch / "x"
    link.symlink_to(path)
    verdicts.replace(Lowered(sockets=(SocketWatch(Where.ENDING, "/docker.sock", certain=True),)))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        fd = puppet("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
        name = struct.pack("H", socket.AF_UNIX) + os.fsencode(link) + b"\0"
        with pytest.raises(PermissionError):
            puppet("connect", fd, puppet.place(name), len(name))
    event = told(inside, UnixConnected)
    assert (event.name, event.listener) == (str(path), os.getpid())


def test_a_destination_is_reached_and_a_small_answer_comes_back(inside, puppet):
    with listener("127.0.0.1") as there:
        assert connect(puppet, address("127.0.0.1", there.getsockname()[1])) >= 0
