# SPDX-License-Identifier: Apache-2.0
"""From bpf/ to code that a kernel can load, by bcc, of which this is the only importer; it loads nothing.

What was compiled once is kept (`compiled.py`), and bcc is not even imported the next time.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

from monitor.capture.compiled import Compiled
from monitor.capture.headers import KernelBuild, header_tree
from monitor.capture.programs import KernelSettings, programs_of
from monitor.errors import CaptureError
from monitor.tier import Tier


def compiled_for(settings: KernelSettings, tier: Tier, build: KernelBuild) -> Compiled:
    """What a kernel of this tier gets: found in `settings.header_cache`, or made and left there.

    Raises CaptureError where bcc is missing or does not compile it, RequirementError where there is no
    BTF of that kernel.
    """
    kept = settings.header_cache / f"programs-{settings.digest(build)}-{tier}.json"
    return Compiled.read(kept) or _compile(settings, tier, build, kept)


def _compile(settings: KernelSettings, tier: Tier, build: KernelBuild, keep: Path) -> Compiled:
    # bcc reads the variable while it is imported and while it compiles.
    os.environ["BCC_KERNEL_SOURCE"] = str(header_tree(settings.header_cache, build))
    try:
        import bcc  # noqa: PLC0415 - after the variable is set
        from bcc.libbcc import lib  # noqa: PLC0415
    except ImportError as error:
        raise CaptureError(
            "bcc's Python package is not importable", mend="run `make setup`"
        ) from error
    # bcc attaches what it knows by name as soon as it has compiled it; the order is ours.
    bcc.BPF._trace_autoload = lambda _: None  # noqa: SLF001 - it has no switch for that
    flags = [f"-I{settings.source}", *settings.defines(tier), "-Wno-macro-redefined"]
    try:
        module = bcc.BPF(text=settings.text(tier).encode(), cflags=flags)
    except Exception as error:
        raise CaptureError(
            f"the BPF programs do not compile: {error}", mend="run `estop doctor`"
        ) from error
    maps = _maps_of(module, lib)
    functions = {p.code or name for name, p in programs_of(tier).items()}
    code = {name: bytes(module.dump_func(name.encode())) for name in sorted(functions)}
    compiled = Compiled.of(maps, code)
    for fd in maps.values():
        os.close(fd)  # ours are created in the same way from the first start on
    compiled.write(keep)
    return compiled


def _maps_of(module: Any, lib: Any) -> dict[str, int]:  # noqa: ANN401 - bcc has no types
    """Descriptors of what was created with a compilation."""
    inner = module.module
    lib.bpf_num_tables.argtypes = [ctypes.c_void_p]
    lib.bpf_num_tables.restype = ctypes.c_size_t
    lib.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    lib.bpf_table_name.restype = ctypes.c_char_p
    names = [lib.bpf_table_name(inner, n) for n in range(lib.bpf_num_tables(inner))]
    return {name.decode(): lib.bpf_table_fd(inner, name) for name in names}
