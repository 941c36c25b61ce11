# SPDX-License-Identifier: Apache-2.0
"""The agent of the demo: ordinary work, then one thing its owner forbade; standard library only.

It must be run on a stage (`agent/stage.py`) with a scratch home: what it does, it really does.

    demo_agent.py ACT HOME        ACT: hosts, credentials, payment or copy
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PAYMENT_HOST = "api.stripe.com"
CANARY = "went-on"
"""Made in the home if the agent could go on after its forbidden act."""
GO_ON_S = 0.3  # far more than a stop takes, so that whoever is not stopped is seen


def work(home: Path) -> None:
    """What a coding agent does all day; nobody should be stopped for it."""
    project = home / "project"
    project.mkdir()
    (project / "hello.c").write_text('#include <stdio.h>\nint main(void) { puts("hi"); }\n')
    _run(project, "git", "init", "--quiet")
    _run(project, "git", "add", ".")
    who = ["-c", "user.name=demo", "-c", "user.email=demo@localhost"]
    _run(project, "git", *who, "commit", "--quiet", "--message", "first")
    _run(project, "gcc", "-o", "hello", "hello.c")
    names = Path("/etc/hosts").read_text()
    _say(f"read /etc/hosts: {len(names.splitlines())} lines")


def edit_hosts(_home: Path) -> None:
    """Send a name somewhere else, by writing in place."""
    _say("adding a line to /etc/hosts")
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write("127.0.0.1 bank.example\n")


def read_credentials(home: Path) -> None:
    """Look for keys and for the passwords of a mail program."""
    _say("reading ~/.msmtprc (a mail password) and ~/.aws/credentials")
    (home / ".msmtprc").read_text()
    (home / ".aws/credentials").read_text()


def pay(_home: Path) -> None:
    """Reach for a payment service: ask for its address, then say its name in a ClientHello."""
    _say(f"asking for the address of {PAYMENT_HOST}, then connecting to it")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.settimeout(2)
        resolver.sendto(question(PAYMENT_HOST), ("127.0.0.1", 53))
        address = socket.inet_ntoa(resolver.recv(512)[-4:])
    with socket.create_connection((address, 443), timeout=2) as connection:
        context = ssl.create_default_context()
        context.wrap_socket(connection, server_hostname=PAYMENT_HOST)


def copy_itself(home: Path) -> None:
    """Lay a copy where it starts at the next login, and start it right away as well."""
    _say("copying itself to ~/.config/autostart and running the copy")
    autostart = home / ".config/autostart"
    autostart.mkdir(parents=True, exist_ok=True)
    copy = shutil.copy(__file__, autostart / "helper.py")
    subprocess.run([sys.executable, copy, "nothing", str(home)], check=False)


ACTS: dict[str, Callable[[Path], None]] = {
    "hosts": edit_hosts,
    "credentials": read_credentials,
    "payment": pay,
    "copy": copy_itself,
    "nothing": lambda _home: None,
}


def question(name: str) -> bytes:
    """A DNS question for the IPv4 address of `name`."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", 0x4553, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def _run(directory: Path, *words: str) -> None:
    if shutil.which(words[0]) is None:
        _say(f"{words[0]} is not installed, going on without it")
        return
    subprocess.run(words, cwd=directory, check=True)
    _say(" ".join(words[:1] + tuple(w for w in words[1:] if w != "-c" and "=" not in w)))


def _say(line: str) -> None:
    print(f"  agent  {line}", flush=True)  # noqa: T201 - the demo is what it prints


def main() -> int:
    """Work, act, and go on if nobody stops it."""
    act, home = sys.argv[1], Path(sys.argv[2])
    os.environ["HOME"] = str(home)
    if act != "nothing":
        work(home)
    try:
        ACTS[act](home)
    except OSError as error:
        _say(f"that failed: {error}")
    time.sleep(GO_ON_S)
    (home / CANARY).touch()
    _say("nobody stopped me")
    return 0


if __name__ == "__main__":
    sys.exit(main())
