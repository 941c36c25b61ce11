# SPDX-License-Identifier: Apache-2.0
"""A loaded program is hung where it belongs; who loads it and who pins the link is not its business."""

from __future__ import annotations

from monitor.capture import bpf
from monitor.capture.programs import Kind, Program
from monitor.errors import CaptureError


def attach(name: str, program: Program, loaded: int, cgroup_root: int = -1) -> int:
    """The descriptor of the link; all three kinds are links to the kernel and can be pinned.

    `cgroup_root` is asked for by the kinds of cgroups.
    """
    try:
        match program.kind:
            case Kind.RAW_TRACEPOINT:
                return bpf.attach_raw_tracepoint(loaded, str(program.at))
            case Kind.LSM | Kind.RETURN:
                return bpf.attach_at_function(loaded)
            case _:
                return bpf.link_cgroup(loaded, cgroup_root, int(program.at))
    except OSError as error:
        raise CaptureError(
            f"cannot attach {name}: {error.strerror}",
            mend="estop needs Linux 6.1 or later, CAP_NET_ADMIN and CAP_BPF",
        ) from error
