# SPDX-License-Identifier: Apache-2.0
"""What the compiler made of bpf/, kept: a start that finds it needs no compiler; it loads nothing.

One JSON file for each digest of the sources, beside the kernel headers that they were compiled
against. Compiling takes a second, 150 MB and, in an emulated guest, minutes.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from monitor.capture import bpf

_INSTRUCTION = struct.Struct("<BBhi")  # struct bpf_insn: opcode, dst and src, offset, immediate
_LOAD_64 = 0x18  # BPF_LD | BPF_IMM | BPF_DW, of two instructions
_PSEUDO_MAP_FD = 1  # the immediate is a map's descriptor


@dataclass(frozen=True)
class MapShape:
    """What a map is created with."""

    name: str
    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@dataclass(frozen=True)
class Compiled:
    """Maps, and the code of each function: where it names a map, it has its index in `maps`."""

    maps: tuple[MapShape, ...]
    code: Mapping[str, bytes]

    @classmethod
    def of(cls, maps: Mapping[str, int], code: Mapping[str, bytes]) -> Self:
        """From maps that exist, by their descriptors, and code that has these descriptors in it."""
        shapes = tuple(_shape(name, fd) for name, fd in maps.items())
        indices = {fd: index for index, fd in enumerate(maps.values())}
        return cls(shapes, {name: _renumbered(text, indices) for name, text in code.items()})

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """From a file; None where there is none, or not what `write` leaves."""
        try:
            words: dict[str, Any] = json.loads(path.read_text())
            code = {name: bytes.fromhex(text) for name, text in words["code"].items()}
            return cls(tuple(MapShape(**shape) for shape in words["maps"]), code)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write(self, path: Path) -> None:
        """Into a file, which appears by rename: nobody reads half of one."""
        words = {
            "maps": [asdict(shape) for shape in self.maps],
            "code": {name: text.hex() for name, text in self.code.items()},
        }
        half = path.with_suffix(f".{os.getpid()}")
        half.write_text(json.dumps(words))
        half.rename(path)

    def create_maps(self) -> dict[str, int]:
        """New maps of these shapes: their descriptors by name."""
        return {
            m.name: bpf.create_map(
                m.kind, m.key_size, m.value_size, m.max_entries, m.flags, name=m.name
            )
            for m in self.maps
        }

    def linked(self, function: str, maps: Mapping[str, int]) -> bytes:
        """Code that can be loaded, with the descriptors of these maps in it."""
        fds = {index: maps[shape.name] for index, shape in enumerate(self.maps)}
        return _renumbered(self.code[function], fds)


def _shape(name: str, fd: int) -> MapShape:
    info = bpf.MapInfo.of(fd)
    return MapShape(name, info.kind, info.key_size, info.value_size, info.max_entries, info.flags)


def _renumbered(code: bytes, numbers: Mapping[int, int]) -> bytes:
    """The code with every map's number replaced by another."""
    result = bytearray(code)
    for at in range(0, len(code), _INSTRUCTION.size):
        opcode, registers, offset, immediate = _INSTRUCTION.unpack_from(code, at)
        if opcode == _LOAD_64 and registers >> 4 == _PSEUDO_MAP_FD:
            _INSTRUCTION.pack_into(result, at, opcode, registers, offset, numbers[immediate])
    return bytes(result)
