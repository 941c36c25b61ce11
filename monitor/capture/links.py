# SPDX-License-Identifier: Apache-2.0
"""The two bpf(2) commands bcc has no call for: a cgroup link, and asking a link whether it lives.

bcc attaches cgroup programs with BPF_PROG_ATTACH, which outlives a monitor that crashed and then
goes on refusing connections for sessions nobody serves. A link goes with the descriptor.
"""

from __future__ import annotations

import ctypes
import os
import struct

from monitor.errors import CaptureError

_NR_BPF = 321  # x86-64
_BPF_OBJ_GET_INFO_BY_FD = 15
_BPF_LINK_CREATE = 28  # Linux 5.7

_libc = ctypes.CDLL(None, use_errno=True)
_ATTR_BYTES = 64
_INFO_BYTES = 64
_LINK_TYPE_CGROUP = 3


def _bpf(command: int, attr: ctypes.Array[ctypes.c_char]) -> int:
    result = int(_libc.syscall(_NR_BPF, command, attr, len(attr)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def link_cgroup(program_fd: int, cgroup_fd: int, attach_type: int, name: str) -> int:
    """Attach a program to a cgroup beside whatever is attached already; the link's descriptor."""
    attr = ctypes.create_string_buffer(
        struct.pack("<IIII", program_fd, cgroup_fd, attach_type, 0), _ATTR_BYTES
    )
    try:
        return _bpf(_BPF_LINK_CREATE, attr)
    except OSError as error:
        raise CaptureError(
            f"cannot attach {name} to the root cgroup: {error.strerror}",
            mend="estop needs Linux 5.7 or later and CAP_NET_ADMIN and CAP_BPF",
        ) from error


def link_is_attached(link_fd: int) -> bool:
    """False once somebody detached it by force; a cgroup link then reports cgroup 0."""
    info = ctypes.create_string_buffer(_INFO_BYTES)
    attr = ctypes.create_string_buffer(
        struct.pack("<IIQ", link_fd, _INFO_BYTES, ctypes.addressof(info)), _ATTR_BYTES
    )
    try:
        _bpf(_BPF_OBJ_GET_INFO_BY_FD, attr)
    except OSError:
        return False
    kind, _, program, _, cgroup = struct.unpack_from("<IIIIQ", info.raw)
    return bool(program) and (kind != _LINK_TYPE_CGROUP or bool(cgroup))
