# SPDX-License-Identifier: Apache-2.0
"""A process that stops others does not wait for memory or descriptors, and is killed after all others.

An agent can fill the memory. The kernel then drops what it can read again from a disk, programs and
libraries that nobody has used for a while among it: those of a monitor that has had nothing to do.
"""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress

_libc = ctypes.CDLL(None, use_errno=True)
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # <linux/mman.h>
_OOM_SCORES = (-1000, -500, 0)
"""Without CAP_SYS_RESOURCE only down to what somebody with it allowed."""


def stay_in_memory() -> str:
    """What this process has read or written stays in memory from now on; why not, where it cannot.

    With `MCL_ONFAULT` (Linux 4.4) that is what was touched, and not all that libraries map.
    """
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return os.strerror(ctypes.get_errno())
    return ""


def be_killed_last() -> None:
    """When memory runs out, the kernel's choice falls on others, as far as it lets us say so."""
    for score in _OOM_SCORES:
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write(str(score))
            return


def open_as_many_as_may_be() -> None:
    """Raise the limit of open descriptors as far as it goes: each session and each connection has some.

    It is 1024 by default, for the sake of select(2), which cannot count further: nothing that is opened
    after the start is given to that.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
