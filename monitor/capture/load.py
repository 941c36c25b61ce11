# SPDX-License-Identifier: Apache-2.0
"""`python -m monitor.capture.load`: compile, load, attach and pin, and end.

A process of its own, because bcc brings 150 MB of compiler that the daemon would keep for ever, if no
earlier start has left what it makes (`compile.py`). It is told the directory to pin in and the settings
as JSON on standard input, and answers with a report as JSON on standard output; on failure that is an
`error` and its `mend`, and what it had attached goes with it, except for pins, which its parent removes.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from monitor.capture import bpf, syscalls
from monitor.capture.attach import attach
from monitor.capture.btf import KernelBtf
from monitor.capture.compile import compiled_for
from monitor.capture.headers import KernelBuild
from monitor.capture.probe import HOOK, probe
from monitor.capture.programs import KernelSettings, Kind, Program, programs_of
from monitor.errors import CaptureError, EstopError

_MEND = "run `estop doctor`"
_LOADED_AS = {
    Kind.RAW_TRACEPOINT: bpf.Load.RAW_TRACEPOINT,
    Kind.TAIL_CALL: bpf.Load.RAW_TRACEPOINT,
    Kind.CGROUP_SKB: bpf.Load.CGROUP_SKB,
    Kind.CGROUP_ADDRESS: bpf.Load.CGROUP_ADDRESS,
    Kind.RETURN: bpf.Load.RETURN,
    Kind.LSM: bpf.Load.LSM,
}
_AT_FUNCTIONS = {Kind.LSM, Kind.RETURN}
_NUMBER = struct.Struct("<I")
_SHAPE = struct.Struct("<8B")  # struct estop_syscall_shape


class Loader:
    """One build of the programs, from bpf/ or from an earlier start, and what becomes of it."""

    def __init__(self, settings: KernelSettings) -> None:
        self._settings = settings
        self._btf = KernelBtf()
        self.tier = probe(self._btf.function(HOOK))
        self._compiled = compiled_for(settings, self.tier, KernelBuild.running())
        self._maps = self._compiled.create_maps()

    def pin_all(self, directory: Path) -> dict[str, Any]:
        """Maps first, then programs in the order of their table: a half-attached set can hold."""
        for name in ("maps", "programs", "links"):
            (directory / name).mkdir()
        (directory / "tier").symlink_to(self.tier)
        for name, fd in self._maps.items():
            bpf.pin(fd, str(directory / "maps" / name))
        self._fill_syscalls()
        root = os.open(self._settings.cgroup_root, os.O_RDONLY | os.O_DIRECTORY)
        missing = self._missing()
        (directory / "missing").symlink_to(" ".join(missing) or "-")
        handlers = bpf.Map(self._maps["handlers"], _NUMBER, _NUMBER)
        programs = {n: p for n, p in programs_of(self.tier).items() if n not in missing}
        loaded = self._load_all(programs)
        for name, program in programs.items():
            if program.kind is Kind.TAIL_CALL:
                handlers.set((int(program.at),), (loaded[name],))
            elif program.rests:
                bpf.pin(loaded[name], str(directory / "programs" / name))
            else:
                link = attach(name, program, loaded[name], root)
                bpf.pin(link, str(directory / "links" / name))
        return {
            "tier": self.tier,
            "programs": {name: p.kind for name, p in programs_of(self.tier).items()},
            "maps": sorted(self._maps),
        }

    def _missing(self) -> list[str]:
        """Programs whose function this kernel does not have: that differs by version."""
        return [
            name
            for name, program in programs_of(self.tier).items()
            if program.kind in _AT_FUNCTIONS and not self._btf.function(str(program.at))
        ]

    def _fill_syscalls(self) -> None:
        table = bpf.Map(self._maps["syscalls"], _NUMBER, _SHAPE)
        for index, shape in syscalls.rows().items():
            row = (
                shape.handler,
                shape.event,
                shape.from_dir,
                shape.from_text,
                shape.to_dir,
                shape.to_text,
                shape.aux,
                shape.restarts,
            )
            table.set((index,), row)

    def _load_all(self, programs: Mapping[str, Program]) -> dict[str, int]:
        """Their descriptors. The verifier takes nearly all of the time, a processor for each program."""
        # The longest first: it would be waited for at the end.
        code = self._compiled.code
        by_length = sorted(programs, key=lambda name: -len(code[programs[name].code or name]))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            loading = {name: pool.submit(self._load, name, programs[name]) for name in by_length}
        return {name: loading[name].result() for name in programs}

    def _load(self, name: str, program: Program) -> int:
        """Not by bcc, which reads the kernel's BTF anew for each: minutes in an emulated guest."""
        at_function = program.kind in _AT_FUNCTIONS
        try:
            return bpf.load(
                _LOADED_AS[program.kind],
                self._compiled.linked(program.code or name, self._maps),
                name,
                function=self._btf.function(str(program.at)) if at_function else 0,
                attach_type=int(program.at) if program.kind is Kind.CGROUP_ADDRESS else 0,
            )
        except OSError as error:
            raise CaptureError(
                f"the kernel does not load {name}: {error.strerror}", mend=_MEND
            ) from error


def main() -> None:
    """Told `{"directory": ..., "settings": ...}`; tells `{"tier", "programs", "maps"}`."""
    asked = json.load(sys.stdin)
    # What bcc and LLVM print is for people: standard output is the report's alone.
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        done = Loader(KernelSettings.of(asked["settings"])).pin_all(Path(asked["directory"]))
    except EstopError as error:
        done = {"error": str(error), "mend": error.mend}
    except OSError as error:
        done = {"error": f"the programs cannot be pinned: {error}", "mend": _MEND}
    with report:
        json.dump(done, report)
    # bcc detaches at exit what it attached itself, which is nothing; its clean-up frees LLVM's
    # memory piece by piece, which the end of the process does at once.
    os._exit(0)


if __name__ == "__main__":
    main()
