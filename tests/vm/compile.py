# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.vm.compile SHARE KEPT`: the BPF programs for a guest that asks for them, made out here.

What takes minutes under emulation takes ten seconds on the host, and is the same to the byte: compiler and
sources are, and all that the compiler knows of a kernel is its BTF, which the guest has left in SHARE.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from monitor.capture.compile import compiled_for
from monitor.capture.headers import KernelBuild
from monitor.capture.programs import KernelSettings
from monitor.errors import EstopError
from monitor.tier import Tier

BUILD = "build"
"""In SHARE: `uname -r` and `uname -v` of the guest, once its BTF lies there whole."""
BTF = "btf"
_BPF = Path(__file__).parents[2] / "bpf"
_CGROUPS = Path("/sys/fs/cgroup")  # of a guest: see inside.sh


def main(share: Path, kept: Path) -> None:
    """Leave in KEPT what the guest's loader looks for there."""
    release, version = (share / BUILD).read_text().splitlines()
    settings = KernelSettings(
        source=_BPF, header_cache=kept, runtime_dir=kept, cgroup_root=_CGROUPS, monitor_pid=1
    )
    try:
        compiled_for(settings, Tier.LSM, KernelBuild(release, version, share / BTF))
    except EstopError as error:
        sys.exit(f"estop: {error}")
    os._exit(0)  # as the loader: LLVM frees its memory piece by piece


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
