# SPDX-License-Identifier: Apache-2.0
"""What this kernel lets us hook, found by trying; and by how much this machine is slower than most.

A tier is not asked for but tried: kernels that name the LSM hooks may refuse to load a program for
them, and where "bpf" is missing from the kernel's `lsm=` list it loads and is never called.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import subprocess
import time
from functools import cache

_NR_BPF = 321  # x86-64
_MAP_CREATE, _MAP_LOOKUP, _PROG_LOAD, _RAW_TRACEPOINT_OPEN = 0, 1, 5, 17
_MAP_TYPE_ARRAY = 2
_PROG_TYPE_LSM = 29
_ATTACH_LSM_MAC = 27

_libc = ctypes.CDLL(None, use_errno=True)

_SPIN = 200_000
_USUAL_S = 0.010


def _spin_s() -> float:
    start = time.perf_counter()
    for _ in range(_SPIN):
        pass
    return time.perf_counter() - start


PATIENCE = max(1.0, min(_spin_s() for _ in range(3)) / _USUAL_S)
"""By how much a wait must be longer here: 1 on hardware, 10 and more under emulation."""


@cache
def lack(tier: str) -> str:
    """Why this kernel cannot give a tier; empty if it can."""
    if os.geteuid() != 0:
        return "not root"
    if tier == "tracepoint":
        return ""
    assert tier == "lsm", f"no tier is named {tier}"
    descriptors: list[int] = []
    try:
        return _lack_of_lsm(descriptors)
    except OSError as error:
        return f"BPF LSM programs do not load: {error.strerror}"
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _lack_of_lsm(descriptors: list[int]) -> str:
    hook = _btf_id("bpf_lsm_file_open")
    if not hook:
        return "the kernel was built without BPF LSM"
    counter = _bpf(_MAP_CREATE, struct.pack("<IIII", _MAP_TYPE_ARRAY, 4, 8, 1))
    descriptors.append(counter)
    descriptors.append(_load(_counting(counter), hook))
    descriptors.append(_bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", 0, descriptors[-1])))
    os.close(os.open("/", os.O_RDONLY))
    key, value = ctypes.c_uint32(0), ctypes.c_uint64(0)
    places = (ctypes.addressof(key), ctypes.addressof(value))
    _bpf(_MAP_LOOKUP, struct.pack("<I4xQQ", counter, *places))
    return "" if value.value else '"bpf" is not in the kernel\'s lsm= list'


def _btf_id(function: str) -> int:
    command = ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "raw"]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(rf"^\[(\d+)\] FUNC '{function}'", dump, re.MULTILINE)
    return int(found[1]) if found else 0


def _counting(counter: int) -> bytes:
    """A program that counts its calls and refuses nothing."""
    instructions = (
        (0x18, 0x21, 0, counter), (0, 0, 0, 0),  # r1 = the map's only value
        (0xB7, 0x02, 0, 1),                      # r2 = 1
        (0xDB, 0x21, 0, 0),                      # lock *(u64 *)r1 += r2
        (0xB7, 0x00, 0, 0),                      # r0 = 0
        (0x95, 0, 0, 0),                         # return r0
    )  # fmt: skip
    return b"".join(struct.pack("<BBhi", *i) for i in instructions)


def _load(program: bytes, hook: int) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"GPL")
    places = (ctypes.addressof(code), ctypes.addressof(licence))
    # union bpf_attr: type, count, code, licence @0; expected_attach_type @68; attach_btf_id @108
    attr = struct.pack("<IIQQ", _PROG_TYPE_LSM, len(program) // 8, *places)
    return _bpf(_PROG_LOAD, attr.ljust(68, b"\0") + struct.pack("<I36xI", _ATTACH_LSM_MAC, hook))


def _bpf(command: int, attr: bytes) -> int:
    buffer = ctypes.create_string_buffer(attr, 128)
    result = int(_libc.syscall(_NR_BPF, command, buffer, len(buffer)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
