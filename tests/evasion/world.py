# SPDX-License-Identifier: Apache-2.0
"""Everybody else on a stage: servers that write down what they get, and a process with a secret.

Whatever arrives at an address is appended to the file named beside it, so that a test can see which
bytes reached whom. It knows nothing of monitors.

    world.py DIRECTORY        the secret is in the environment variable SECRET
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import socket
import sys
import time
from pathlib import Path

SINK, LOCALHOST = "127.66.0.1", "127.0.0.1"
SINK_PORT, SLOW_PORT, DIAL_PORT = 4443, 4444, 4445
SLOW_FOR_S = 1.0
# A service that runs programs for others is, to the session, an address that takes bytes.
SERVICES = (
    "/run/systemd/private",
    "/run/dbus/system_bus_socket",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/screen/S-root/1",
    "/run/tmux-0/default",
    "/run/keys/agent.1",
)
SERVICE_PORTS = (22, 2375, 10250)
RESOLVER_PORT = 53
PROXIES = ("\0estop-proxy", "/run/proxy.sock")
ENGINE_BY_OTHER_NAME = "/run/other/engine.sock"


class World:
    def __init__(self, place: Path) -> None:
        self.place = place
        self.selector = selectors.DefaultSelector()
        self.hosts = os.open("/etc/hosts", os.O_RDWR | os.O_APPEND)

    def serve(self) -> None:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            for host in (SINK, LOCALHOST):
                self._listen(socket.AF_INET, (host, SINK_PORT), "sink", kind)
        self._listen(socket.AF_INET, (LOCALHOST, RESOLVER_PORT), "sink", socket.SOCK_DGRAM)
        for port in SERVICE_PORTS:
            self._listen(socket.AF_INET, (LOCALHOST, port), "service")
        Path("/run/systemd/system").mkdir(parents=True)  # systemd-run looks whether systemd runs
        for path in SERVICES:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._listen(socket.AF_UNIX, path, "service")
        Path(ENGINE_BY_OTHER_NAME).parent.mkdir()
        Path(ENGINE_BY_OTHER_NAME).symlink_to("/run/docker.sock")
        for path in PROXIES:
            self._listen(socket.AF_UNIX, path, "sink")
        self._hand_out("\0estop-hosts", lambda: self.hosts)
        self._hand_out("\0estop-socket", lambda: connected().detach())
        self._slow()
        self._vsock()

    def _listen(
        self, family: int, where: object, file: str, kind: int = socket.SOCK_STREAM
    ) -> None:
        server = socket.socket(family, kind)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(where)
        if kind == socket.SOCK_DGRAM:
            self._read(server, file)
            return
        if family == socket.AF_INET:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 8)
        server.listen()
        self._ready(server, lambda: self._read(server.accept()[0], file))

    def _ready(self, source: socket.socket, act) -> None:
        self.selector.register(source, selectors.EVENT_READ, act)

    def _read(self, source: socket.socket, file: str) -> None:
        def act() -> None:
            try:
                data = source.recv(1 << 20)
            except ConnectionError:
                data = b""
            if data:
                with (self.place / file).open("ab") as out:
                    out.write(data)
            elif source.type == socket.SOCK_STREAM:
                self.selector.unregister(source)

        self._ready(source, act)

    def _hand_out(self, name: str, make) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.bind(name)
        server.listen()

        def act() -> None:
            client, _ = server.accept()
            socket.send_fds(client, [b"x"], [make()])

        self._ready(server, act)

    def _slow(self) -> None:
        """A receiver with little room that takes its time, so that bytes wait at the sender."""
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        server.bind((LOCALHOST, SLOW_PORT))
        server.listen()

        def act() -> None:
            client, _ = server.accept()
            time.sleep(SLOW_FOR_S)
            self._read(client, "slow")

        self._ready(server, act)

    def _vsock(self) -> None:
        try:
            self._listen(socket.AF_VSOCK, (socket.VMADDR_CID_ANY, SINK_PORT), "sink")
        except OSError:
            return  # not in this kernel; the technique then says so

    def dial(self) -> None:
        """Read from whoever of the session is a server."""
        with socket.socket() as client:
            if client.connect_ex((LOCALHOST, DIAL_PORT)) == 0:
                data = client.recv(4096)
                with (self.place / "sink").open("ab") as out:
                    out.write(data)


def connected() -> socket.socket:
    """A socket that somebody outside of the session connected to the address a rule names."""
    return socket.create_connection((SINK, SINK_PORT))


def main() -> None:
    place = Path(sys.argv[1])
    world = World(place)
    clay = ctypes.create_string_buffer(b"untouched")
    secret = ctypes.create_string_buffer(os.environ["SECRET"].encode())
    world.serve()
    about = {
        "OUTSIDER": os.getpid(),
        "OUTSIDER_FD": world.hosts,
        "OUTSIDER_CLAY": ctypes.addressof(clay),
        "OUTSIDER_SECRET": ctypes.addressof(secret),
    }
    (place / "world.new").write_text(json.dumps(about))
    (place / "world.new").rename(place / "world.json")
    while True:
        for key, _ in world.selector.select(0.02):
            key.data()
        world.dial()


if __name__ == "__main__":
    main()
