# SPDX-License-Identifier: Apache-2.0
"""Which tier this kernel gives us, by loading a program and seeing it run; it leaves nothing behind.

Asking is not enough: bcc's support_lsm() says yes on kernels that then refuse with EPERM, and a
kernel without `bpf` in its `lsm=` list loads and attaches LSM programs that it never calls.
"""

from __future__ import annotations

import os
import struct
from contextlib import closing

from monitor.capture import bpf
from monitor.tier import Tier

HOOK = "bpf_lsm_file_open"
"""Where it is tried: every open asks it."""
_PSEUDO_MAP_VALUE = 2
_ONE = struct.Struct("<Q")


def probe(hook: int) -> Tier:
    """`lsm` if a program is loaded, attached and called; else `tracepoint`.

    `hook` is the number of file_open's function in the kernel's BTF, 0 if it has none.
    """
    if not hook:
        return Tier.TRACEPOINT
    with closing(_counter()) as counter:
        try:
            program = bpf.load(bpf.Load.LSM, _setter(counter.fd), "probe", function=hook)
        except OSError:
            return Tier.TRACEPOINT
        try:
            link = bpf.attach_at_function(program)
        except OSError:
            return Tier.TRACEPOINT
        finally:
            os.close(program)
        os.close(os.open("/", os.O_RDONLY))
        os.close(link)
        return Tier.LSM if counter.get(0) == (1,) else Tier.TRACEPOINT


def _counter() -> bpf.Map:
    return bpf.Map(bpf.create_map(bpf.ARRAY, 4, _ONE.size, 1), struct.Struct("<I"), _ONE)


def _setter(counter: int) -> bytes:
    """Sets the counter and allows the open."""
    return b"".join(
        struct.pack("<BBhi", *instruction)
        for instruction in (
            (0x18, 1 | _PSEUDO_MAP_VALUE << 4, 0, counter),  # r1 = the map's only value
            (0, 0, 0, 0),  # its second half: the offset in it
            (0x7A, 1, 0, 1),  # *(u64 *)r1 = 1
            (0xB7, 0, 0, 0),  # r0 = 0: no objection
            (0x95, 0, 0, 0),  # return
        )
    )
