# SPDX-License-Identifier: Apache-2.0
"""What a launched process is denied before it runs the command: seccomp, Landlock, setuid.

The monitor sees and stops; this closes ways round it. Neither the session nor a program that it
starts can undo it. It must not touch file access: Landlock rights over files would forbid mount(2),
of which bubblewrap and browsers build their own sandboxes.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from landlockpy import (
    AccessFS,
    AccessNet,
    Ruleset,
    Scope,
    UnsupportedError,
    abi_version,
    scope_for_abi,
)

from agent import syscall_filter

_CAP_SYS_ADMIN = 21  # <linux/capability.h>


class Guard(StrEnum):
    """What holds for a session; the monitor shows it under these names."""

    NO_NEW_PRIVILEGES = "no-new-privileges"
    """sudo, other setuid programs and file capabilities give nothing."""
    SECCOMP = "seccomp"
    """The system calls of `syscall_filter` are refused."""
    LANDLOCK_SIGNALS = "landlock-signals"
    """No process outside the session can be signalled, nor (as in every Landlock domain) traced, nor
    its memory and descriptors be had; its environment only by root, whose CAP_PERFMON the kernel
    asks first. Processes of the session can do all that to one another."""


def available(*, allow_new_privileges: bool) -> tuple[Guard, ...]:
    """What this process can impose, on this kernel."""
    if allow_new_privileges and not _is_administrator():
        return ()  # the kernel lets only the one or the other lay down filters
    found = [] if allow_new_privileges else [Guard.NO_NEW_PRIVILEGES]
    found.append(Guard.SECCOMP)
    if _can_scope_signals():
        found.append(Guard.LANDLOCK_SIGNALS)
    return tuple(found)


def impose(guards: tuple[Guard, ...]) -> None:
    """Put the calling process under `guards`, for good; OSError if the kernel refuses one.

    To be called while it still has its capabilities: see `available`.
    """
    no_new_privileges = Guard.NO_NEW_PRIVILEGES in guards
    if Guard.LANDLOCK_SIGNALS in guards:
        with Ruleset(
            handled_fs=AccessFS.NONE,
            handled_net=AccessNet.NONE,
            scoped=Scope.SIGNAL,  # not abstract unix sockets: desktops need them
            best_effort=False,
        ) as rules:
            rules.restrict(no_new_privs=no_new_privileges)
    if Guard.SECCOMP in guards:
        syscall_filter.load(no_new_privileges=no_new_privileges)


def _can_scope_signals() -> bool:
    """Since Linux 6.12; a kernel that starts without Landlock says so here."""
    try:
        return Scope.SIGNAL in scope_for_abi(abi_version())
    except UnsupportedError:
        return False


def _is_administrator() -> bool:
    """CAP_SYS_ADMIN, which root in a container may lack."""
    status = Path("/proc/self/status").read_text(errors="replace")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
