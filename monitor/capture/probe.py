# SPDX-License-Identifier: Apache-2.0
"""Which tier this kernel gives us, by loading a program and seeing it run; it leaves nothing behind.

Asking is not enough: bcc's support_lsm() says yes on kernels that then refuse with EPERM, and a
kernel without `bpf` in its `lsm=` list loads and attaches LSM programs that it never calls.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import closing
from typing import Any

from monitor.capture import bpf
from monitor.tier import Tier

_PROG_TYPE_LSM = 29
_PSEUDO_MAP_VALUE = 2
_ONE = struct.Struct("<Q")
_NAME = b"lsm__file_open"  # bcc finds the hook by the name
_LICENSE = b"GPL"


def probe(lib: Any) -> Tier:  # noqa: ANN401 - bcc's libbcc, which has no types
    """`lsm` if a program at file_open is loaded, attached and called; else `tracepoint`."""
    with closing(_counter()) as counter:
        program = _load(lib, counter.fd)
        if program < 0:
            return Tier.TRACEPOINT
        link = lib.bpf_attach_lsm(program)
        os.close(program)
        if link < 0:
            return Tier.TRACEPOINT
        os.close(os.open("/", os.O_RDONLY))
        os.close(link)
        return Tier.LSM if counter.get(0) == (1,) else Tier.TRACEPOINT


def _counter() -> bpf.Map:
    return bpf.Map(bpf.create_array(_ONE.size), struct.Struct("<I"), _ONE)


def _load(lib: Any, counter: int) -> int:  # noqa: ANN401
    """Sets the counter and allows the open. A descriptor, or a negative number."""
    code = b"".join(
        struct.pack("<BBhi", *instruction)
        for instruction in (
            (0x18, 1 | _PSEUDO_MAP_VALUE << 4, 0, counter),  # r1 = the map's only value
            (0, 0, 0, 0),  # its second half: the offset in it
            (0x7A, 1, 0, 1),  # *(u64 *)r1 = 1
            (0xB7, 0, 0, 0),  # r0 = 0: no objection
            (0x95, 0, 0, 0),  # return
        )
    )
    load = lib.bcc_prog_load
    load.restype = ctypes.c_int
    load.argtypes = [
        ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p,
        ctypes.c_uint, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
    ]  # fmt: skip
    return int(load(_PROG_TYPE_LSM, _NAME, code, len(code), _LICENSE, 0, 0, None, 0))
