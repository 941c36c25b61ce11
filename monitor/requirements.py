# SPDX-License-Identifier: Apache-2.0
"""What this host must have for estop to work, each lack with its mend; it must not change the host.

`estop doctor` prints the list; the daemon refuses to start on it. Whether a BPF program really
loads is the sensors' own business (`capture/`): a kernel may have all of this and still refuse.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from monitor.errors import RequirementError
from monitor.sessions.cgroups import find_root

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """One thing this host must have; `mend` is a command where there is one."""

    name: str
    ok: bool
    detail: str
    mend: str = ""


def check_all() -> list[Requirement]:
    """Every requirement, met or not, in the order a person would mend them."""
    return [check() for check in CHECKS]


def check_kernel(release: str | None = None) -> Requirement:
    """6.1 for `struct cgroup`; that includes cgroup.kill, the ring buffer and cgroup.freeze (5.2)."""
    release = release or platform.release()
    version = re.match(r"(\d+)\.(\d+)", release)
    number = (int(version[1]), int(version[2])) if version else (0, 0)
    lacks = [
        what
        for needed, what in (
            ((5, 8), "BPF ring buffer (5.8)"),
            ((5, 14), "cgroup.kill (5.14)"),
            ((6, 1), "ancestors in struct cgroup (6.1)"),
        )
        if number < needed
    ]
    detail = f"Linux {release}" + (f" has no {', no '.join(lacks)}" if lacks else "")
    return Requirement(
        name="kernel", ok=not lacks, detail=detail, mend="boot Linux 6.1 or newer" if lacks else ""
    )


def check_machine(machine: str | None = None) -> Requirement:
    """System calls are known by the numbers and registers of x86-64: capture/syscalls.py, bpf/syscall.h."""
    machine = machine or platform.machine()
    ok = machine == "x86_64"
    return Requirement(
        name="machine", ok=ok, detail=machine, mend="" if ok else "run it on an x86-64 machine"
    )


def check_btf(file: Path = Path("/sys/kernel/btf/vmlinux")) -> Requirement:
    """The kernel's own types, from which the sensors get every struct offset."""
    ok = file.is_file()
    return Requirement(
        name="BTF",
        ok=ok,
        detail=str(file) if ok else f"no {file}",
        mend="" if ok else "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
    )


def check_cgroup2(find: Callable[[], Path] = find_root) -> Requirement:
    """The one hierarchy with cgroup.freeze and cgroup.kill."""
    try:
        root = find()
    except RequirementError as error:
        return Requirement(name="cgroup2", ok=False, detail=str(error), mend=error.mend)
    return Requirement(name="cgroup2", ok=True, detail=f"mounted at {root}")


def check_root(euid: int | None = None) -> Requirement:
    """Loading BPF and writing cgroup files needs root."""
    euid = os.geteuid() if euid is None else euid
    return Requirement(
        name="root",
        ok=euid == 0,
        detail=f"uid {euid}",
        mend="" if euid == 0 else "run it with sudo",
    )


def check_bcc(module: str = "bcc") -> Requirement:
    """Is bcc there for this interpreter? Only looked for: importing costs a second and 150 MB."""
    found = importlib.util.find_spec(module)
    return Requirement(
        name="bcc",
        ok=found is not None,
        detail=str(found.origin) if found else f"this Python has no module {module}",
        mend="" if found else "apt-get install python3-bpfcc, then make setup",
    )


def check_seccomp(module: str = "seccomp") -> Requirement:
    """Is libseccomp there for this interpreter? `estop run` starts nothing without a filter."""
    found = importlib.util.find_spec(module)
    return Requirement(
        name="seccomp",
        ok=found is not None,
        detail=str(found.origin) if found else f"this Python has no module {module}",
        mend="" if found else "apt-get install python3-seccomp, then make setup",
    )


def check_bpftool(path: str | None = None) -> Requirement:
    """Writes the kernel's types out as C for bcc, in place of kernel headers."""
    path = os.environ.get("PATH", "") + os.pathsep + _SBIN if path is None else path
    found = shutil.which("bpftool", path=path)
    return Requirement(
        name="bpftool",
        ok=found is not None,
        detail=found or "not in PATH",
        mend="" if found else "apt-get install bpftool (Ubuntu: linux-tools-generic)",
    )


CHECKS: tuple[Callable[[], Requirement], ...] = (
    check_kernel,
    check_machine,
    check_btf,
    check_cgroup2,
    check_root,
    check_bcc,
    check_seccomp,
    check_bpftool,
)
