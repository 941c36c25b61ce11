# SPDX-License-Identifier: Apache-2.0
"""Sets stages and starts programs on them; one of it serves all tests, because Python starts slowly.

A stage has mounts, a network, a /run and an /etc of its own; its processes lie in a cgroup of the
test's. The program is started as `estop run` starts it, by the launcher, or without a monitor as the
control. One JSON request on a line of standard input, one pid on a line of standard output.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import world

from agent import launcher, stage

_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for stages
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _be_the_stage(request)
        print(pid, flush=True)


def _be_the_stage(request: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        code = _set_and_start(request)
    except BaseException:  # noqa: BLE001 - whatever it is, the copy must not go on as the original
        traceback.print_exc()
    finally:
        os._exit(code)


def _set_and_start(request: dict[str, Any]) -> int:
    place, work = Path(request["place"]), Path(request["place"]) / "work"
    output = os.open(place / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.setsid()
    Path(request["cgroup"], "cgroup.procs").write_text("0")
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET))
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount(b"none", "/run", b"tmpfs", 0)
    _mount(bytes(place / "etc"), "/etc", None, _MS_BIND)
    if Path("/var/spool").is_dir():
        _mount(b"none", "/var/spool", b"tmpfs", 0)
    if Path("/proc/sys/kernel/core_pattern").exists():
        _mount(bytes(place / "core_pattern"), "/proc/sys/kernel/core_pattern", None, _MS_BIND)
    stage._loopback_up()
    with suppress(OSError):  # a frame that a program made itself is else no guest on a loopback
        for name in ("route_localnet", "accept_local"):
            Path(f"/proc/sys/net/ipv4/conf/all/{name}").write_text("1")
    environ = request["environ"]
    if request["world"]:
        environ |= _start_world(place, request["secret"])
    if request["inherits"]:
        environ["INHERITED_FD"] = _kept(_OPENERS[request["inherits"]](environ))
    os.chdir(work)
    os.environ.clear()
    os.environ.update(environ)
    if request["socket"]:
        return launcher.run(
            request["socket"],
            name=request["name"],
            argv=request["words"],
            user=None,
            mode="enforce",
            home=str(work),
        )
    return subprocess.run(request["words"], close_fds=False, check=False).returncode


def _start_world(place: Path, secret: str) -> dict[str, str]:
    """Everybody else, in the same namespaces; returns once they are there."""
    command = [sys.executable, "-I", str(Path(world.__file__)), str(place)]
    subprocess.Popen(command, env={"SECRET": secret, "PATH": os.defpath})
    about = place / "world.json"
    while not about.exists():
        time.sleep(0.005)
    return {name: str(value) for name, value in json.loads(about.read_text()).items()}


# One at a time: else a session would be stopped for another thing than what it is to try.
_OPENERS: dict[str, Callable[[dict[str, str]], int]] = {
    "hosts": lambda _: os.open("/etc/hosts", os.O_RDWR | os.O_APPEND),
    "credential": lambda environ: os.open(f"{environ['HOME']}/.aws/credentials", os.O_RDONLY),
    "socket": lambda _: world.connected().detach(),
}


def _kept(descriptor: int) -> str:
    """The program inherits it, and is told the number."""
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - it takes no keyword
    return str(descriptor)


def _mount(source: bytes | None, target: str, kind: bytes | None, flags: int) -> None:
    _check(_libc.mount(source, target.encode(), kind, ctypes.c_ulong(flags), None))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
