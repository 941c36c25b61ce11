# SPDX-License-Identifier: Apache-2.0
"""A private world for one act: own mounts, own loopback, own name server and web server.

It must be started by `unshare` (see `command`) and must not touch anything outside: the hosts file
an agent edits in here is a copy that only this mount namespace sees, and packets stay in here.
"""

from __future__ import annotations

import argparse
import fcntl
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_DNS_PORT, _TLS_PORT = 53, 443
_DNS_HEADER_BYTES = 12


def command(binds: dict[str, str], words: Sequence[str]) -> list[str]:
    """The command line that runs `words` on a stage where each file of `binds` covers another."""
    unshare = ["unshare", "--mount", "--net", "--propagation", "private"]
    options = ["--outside", _mount_namespace()]
    options += [word for copy, target in binds.items() for word in ("--bind", f"{copy}:{target}")]
    # -P: root must not import from a working directory that belongs to the agent.
    return [*unshare, sys.executable, "-P", "-m", "agent.stage", *options, "--", *words]


def main() -> int:
    """Set the stage, run the command on it, end with its exit code."""
    parser = argparse.ArgumentParser(prog="agent.stage", description=__doc__.partition("\n")[0])
    parser.add_argument("--outside", required=True, help="the mount namespace not to touch")
    parser.add_argument("--bind", action="append", default=[], metavar="COPY:TARGET")
    parser.add_argument("words", nargs="+", metavar="COMMAND")
    given = parser.parse_args()
    if given.outside == _mount_namespace():
        parser.error("not in a mount namespace of its own: start it through `unshare --mount`")
    for pair in given.bind:
        copy, _, target = pair.partition(":")
        subprocess.run(["mount", "--bind", copy, target], check=True)
    _loopback_up()
    _serve_names()
    _serve_tls()
    code = subprocess.run(given.words, check=False).returncode
    return code if code >= 0 else 128 - code


def _mount_namespace() -> str:
    return str(Path("/proc/self/ns/mnt").readlink())


def _loopback_up() -> None:
    """A new network namespace starts with its loopback down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def _serve_names() -> None:
    """A name server for which every name is this machine."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", _DNS_PORT))

    def serve() -> None:
        while True:
            question, client = server.recvfrom(4096)
            server.sendto(answer(question), client)

    threading.Thread(target=serve, daemon=True).start()


def answer(question: bytes) -> bytes:
    """The DNS answer `127.0.0.1` to a question for one name."""
    flags_and_counts = struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
    record = struct.pack("!HHHIH4s", 0xC00C, 1, 1, 60, 4, socket.inet_aton("127.0.0.1"))
    end = question.index(0, _DNS_HEADER_BYTES) + 1 + 4  # the name's zero byte, type and class
    return question[:2] + flags_and_counts + question[_DNS_HEADER_BYTES:end] + record


def _serve_tls() -> None:
    """Somebody who takes a ClientHello and whatever follows, and never answers."""
    server = socket.create_server(("127.0.0.1", _TLS_PORT))

    def drain(client: socket.socket) -> None:
        with client:
            while client.recv(65536):
                pass

    def serve() -> None:
        while True:
            client, _ = server.accept()
            threading.Thread(target=drain, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
