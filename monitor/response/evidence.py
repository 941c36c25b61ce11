# SPDX-License-Identifier: Apache-2.0
"""What a stopped session was doing: its processes, files, sockets and last events; it only reads.

Taken while the session is frozen, so that what it says is true for one moment. Much of it is in the
agent's words, and what cannot be read of it, for whatever reason, is an `error` in its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import structlog

from monitor.events import Event
from monitor.procfs import acting, processes_in, uids_of
from monitor.subjects import Process

_log = structlog.get_logger()

_MAX_PROCESSES = 500
_MAX_FILES = 200


def collect(cgroup: Path, history: Iterable[Event], family: Iterable[Process]) -> dict[str, Any]:
    """Plain data for the alert: `processes`, `events`, and what could not be read.

    `tree` is the family as the events told it: it has the parents at birth, and some that are gone.
    It raises nothing: a kill may follow.
    """
    try:
        return _collect(cgroup, history, family)
    except Exception as error:  # noqa: BLE001 - whatever the agent made of it
        _log.exception("evidence.failed", cgroup=str(cgroup))
        return {"error": str(error)}


def _collect(cgroup: Path, history: Iterable[Event], family: Iterable[Process]) -> dict[str, Any]:
    pids = processes_in(cgroup)
    return {
        "processes": [_process(pid) for pid in pids[:_MAX_PROCESSES]],
        "processes_left_out": max(0, len(pids) - _MAX_PROCESSES),
        "tree": [
            {
                "pid": process.pid,
                "parent_pid": process.parent_pid,
                "image": process.script or process.image,
                "argv": process.argv,
                "started_ns": process.started_ns,
            }
            for process in family
        ],
        "events": [
            {"kind": type(event).__name__, **msgspec.to_builtins(event)} for event in list(history)
        ],
    }


def _process(pid: int) -> dict[str, Any]:
    try:
        process = psutil.Process(acting(pid))
        with process.oneshot():
            return {
                "pid": pid,
                "parent_pid": process.ppid(),
                "image": process.exe(),
                "argv": process.cmdline(),
                "cwd": process.cwd(),
                "uid": uids_of(process.pid)[0],
                "started": psutil.Process(pid).create_time(),
                "files": _files(process.pid),
                "sockets": [*_sockets(process, "inet"), *_sockets(process, "unix")],
            }
    except Exception as error:  # noqa: BLE001 - as above
        return {"pid": pid, "error": str(error)}


def _files(pid: int) -> list[str]:
    base = f"/proc/{pid}/fd"
    found = []
    for number in sorted(os.listdir(base), key=int)[:_MAX_FILES]:
        try:
            found.append(f"{number} {os.readlink(f'{base}/{number}')}")
        except OSError:
            continue  # closed by the kernel while the process dies
    return found


def _sockets(process: psutil.Process, kind: str) -> list[dict[str, Any]]:
    try:
        return [
            {
                "fd": socket.fd,
                "type": socket.type.name,
                "local": _endpoint(socket.laddr),
                "remote": _endpoint(socket.raddr),
                "status": socket.status,
            }
            for socket in process.net_connections(kind)
        ]
    except Exception as error:  # noqa: BLE001 - a socket's name with a line break spoils the table
        return [{"error": str(error)}]


def _endpoint(address: Any) -> str:  # noqa: ANN401 - psutil gives a tuple, a text or nothing
    if not address:
        return ""
    return address if isinstance(address, str) else f"{address.ip}:{address.port}"
