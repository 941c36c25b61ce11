# SPDX-License-Identifier: Apache-2.0
"""bpf(2) itself: maps, programs, pins and links by system call; what they are, others know.

Numbers and structs are those of <linux/bpf.h>, `union bpf_attr`. Every failure is the kernel's own
OSError.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from errno import EEXIST, EINVAL, ENOENT
from typing import Any, Self

_NR_BPF = 321  # x86-64
_MAP_CREATE = 0
_MAP_LOOKUP_ELEM = 1
_MAP_UPDATE_ELEM = 2
_MAP_DELETE_ELEM = 3
_MAP_GET_NEXT_KEY = 4
_PROG_LOAD = 5
_OBJ_PIN = 6
_OBJ_GET = 7
_OBJ_GET_INFO_BY_FD = 15
_LINK_CREATE = 28  # Linux 5.7

ARRAY = 2  # BPF_MAP_TYPE_ARRAY
_LINK_TYPE_CGROUP = 3
_INFO_BYTES = 256

_ELEMENT = struct.Struct("<IIQQQ")  # map_fd, padding, key, value or next_key, flags
_PIN = struct.Struct("<QII")  # pathname, bpf_fd, file_flags
_INFO = struct.Struct("<IIQ")  # bpf_fd, info_len, info
# map_type, key_size, value_size, max_entries, map_flags, inner_map_fd, numa_node, map_name
_MAP = struct.Struct("<IIIIIII16s")
_RAW_TRACEPOINT_OPEN = 17
_NAME_BYTES = 15
_INSTRUCTION_BYTES = 8
_LOG_BYTES = 1 << 24  # a kernel before 6.4 gives up where the report does not fit
# prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags,
# prog_name, prog_ifindex, expected_attach_type, then five members that are 0, attach_btf_id
_PROGRAM = struct.Struct("<IIQQIIQII16sIIIIQIIQII")
_LINK = struct.Struct("<IIII")  # prog_fd, target_fd, attach_type, flags

# The interpreter's lock is held over the map commands: they take less than it takes to give the
# lock away and get it back, and cutting a session's network is one of them. The others may wait.
_quick = ctypes.PyDLL(None, use_errno=True)
_slow = ctypes.CDLL(None, use_errno=True)

Row = tuple[Any, ...]
"""The members of a key or of a value, in the order of their C struct."""


def _bpf(command: int, attr: bytes, libc: ctypes.CDLL = _slow) -> int:
    result = int(libc.syscall(_NR_BPF, command, attr, len(attr)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def pin(fd: int, path: str) -> None:
    """Keep a map, program or link alive under a name in a bpffs."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    _bpf(_OBJ_PIN, _PIN.pack(_address(name), fd, 0))


def get(path: str) -> int:
    """A descriptor of what is pinned there."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return _bpf(_OBJ_GET, _PIN.pack(_address(name), 0, 0))


def create_map(
    kind: int, key_size: int, value_size: int, max_entries: int, flags: int = 0, *, name: str = ""
) -> int:
    """A descriptor of a new map. `kind` is one of enum bpf_map_type."""
    short = name.encode()[:_NAME_BYTES]
    attr = _MAP.pack(kind, key_size, value_size, max_entries, flags, 0, 0, short)
    return _bpf(_MAP_CREATE, attr)


class Load(Enum):
    """What a program is loaded as: its enum bpf_prog_type, its expected enum bpf_attach_type."""

    CGROUP_SKB = (8, 0)
    RAW_TRACEPOINT = (17, 0)
    CGROUP_ADDRESS = (18, 0)  # the caller says which
    RETURN = (26, 25)  # TRACING, TRACE_FEXIT
    LSM = (29, 27)  # LSM_MAC


def load(as_: Load, code: bytes, name: str, *, function: int = 0, attach_type: int = 0) -> int:
    """Load a program; its descriptor. `function`: the number in BTF of the one it is to be at.

    OSError has the end of the verifier's report in it where that is why.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(b"GPL")
    short = name.encode()[-_NAME_BYTES:]
    kind, expected = as_.value
    attach = attach_type or expected

    def attempt(*told: int) -> int:
        places = (_address(instructions), _address(license_))
        attr = _PROGRAM.pack(
            kind, len(code) // _INSTRUCTION_BYTES, *places, *told, 0, 0, short,
            0, attach, 0, 0, 0, 0, 0, 0, 0, function,
        )  # fmt: skip
        return _bpf(_PROG_LOAD, attr)

    try:
        return attempt(0, 0, 0)
    except OSError as error:
        log = ctypes.create_string_buffer(_LOG_BYTES)
        with suppress(OSError):
            return attempt(1, _LOG_BYTES, _address(log))  # again, and say why
        said = log.value.decode(errors="replace").splitlines()[-12:]
        raise OSError(error.errno, "\n".join([error.strerror or "", *said])) from error


def attach_at_function(program_fd: int) -> int:
    """Attach a program to the function it was loaded for; the link's descriptor."""
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QIIQ", 0, program_fd, 0, 0))


def attach_raw_tracepoint(program_fd: int, tracepoint: str) -> int:
    """Attach a program to a tracepoint by name; the link's descriptor."""
    name = ctypes.create_string_buffer(tracepoint.encode())
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QIIQ", _address(name), program_fd, 0, 0))


def link_cgroup(program_fd: int, cgroup_fd: int, attach_type: int) -> int:
    """Attach a program to a cgroup beside whatever is attached already; the link's descriptor.

    bcc attaches with BPF_PROG_ATTACH, which nobody can detach once the attaching process is gone
    and the program's descriptor with it. A link goes with its last descriptor or pin.
    """
    return _bpf(_LINK_CREATE, _LINK.pack(program_fd, cgroup_fd, attach_type, 0))


def _info(fd: int) -> bytes:
    info = ctypes.create_string_buffer(_INFO_BYTES)
    _bpf(_OBJ_GET_INFO_BY_FD, _INFO.pack(fd, _INFO_BYTES, _address(info)))
    return info.raw


def link_is_attached(link_fd: int) -> bool:
    """False once somebody detached it by force; a cgroup link then reports cgroup 0."""
    try:
        info = _info(link_fd)
    except OSError:
        return False
    kind, _, program, _, cgroup = struct.unpack_from("<IIIIQ", info)  # struct bpf_link_info
    return bool(program) and (kind != _LINK_TYPE_CGROUP or bool(cgroup))


@dataclass(frozen=True)
class MapInfo:
    """The beginning of `struct bpf_map_info`. For a ring buffer `max_entries` is its size in bytes."""

    kind: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int

    @classmethod
    def of(cls, fd: int) -> Self:
        """What the kernel says of a map."""
        return cls(*struct.unpack_from("<IIIIII", _info(fd)))


class Map:
    """One map: rows of `key` to rows of `value`. Any thread may use it; the kernel has the locks.

    Buffers are made anew in each call, because two threads may be in the same call.
    """

    def __init__(self, fd: int, key: struct.Struct, value: struct.Struct) -> None:
        self.fd = fd
        self._key = key
        self._value = value

    def get(self, *key: Any) -> Row | None:  # noqa: ANN401 - the struct says which types
        """The value of a key, or None."""
        wanted = ctypes.create_string_buffer(self._key.pack(*key), self._key.size)
        found = ctypes.create_string_buffer(self._value.size)
        try:
            self._element(_MAP_LOOKUP_ELEM, _address(wanted), _address(found))
        except OSError as error:
            if error.errno == ENOENT:
                return None
            raise
        return self._value.unpack(found)

    def set(self, key: Row, value: Row) -> None:
        """Write a row, whether there was one or not; OSError E2BIG where the map is full."""
        there = ctypes.create_string_buffer(self._key.pack(*key), self._key.size)
        new = ctypes.create_string_buffer(self._value.pack(*value), self._value.size)
        self._element(_MAP_UPDATE_ELEM, _address(there), _address(new))

    def add(self, key: Row, value: Row) -> bool:
        """Write a row where there is none; False where there is one."""
        there = ctypes.create_string_buffer(self._key.pack(*key), self._key.size)
        new = ctypes.create_string_buffer(self._value.pack(*value), self._value.size)
        try:
            self._element(_MAP_UPDATE_ELEM, _address(there), _address(new), 1)  # BPF_NOEXIST
        except OSError as error:
            if error.errno == EEXIST:
                return False
            raise
        return True

    def delete(self, *key: Any) -> bool:  # noqa: ANN401 - the struct says which types
        """Remove a row; False if there was none."""
        gone = ctypes.create_string_buffer(self._key.pack(*key), self._key.size)
        try:
            self._element(_MAP_DELETE_ELEM, _address(gone), 0)
        except OSError as error:
            if error.errno == ENOENT:
                return False
            raise
        return True

    def keys(self) -> Iterator[Row]:
        """Every key. Where others write meanwhile, some may be missing or come twice.

        The kernel starts from the beginning when the key we stand at has gone, so the walk is
        bounded by the size of the map.
        """
        at = ctypes.create_string_buffer(self._key.size)
        following = ctypes.create_string_buffer(self._key.size)
        address = 0  # none: the first key
        for _ in range(MapInfo.of(self.fd).max_entries):
            try:
                self._element(_MAP_GET_NEXT_KEY, address, _address(following))
            except OSError as error:
                if error.errno == ENOENT:
                    return
                raise
            at.raw, address = following.raw, _address(at)
            yield self._key.unpack(at)

    def items(self) -> Iterator[tuple[Row, Row]]:
        """Every key with its value; see `keys`."""
        for key in self.keys():
            value = self.get(*key)
            if value is not None:
                yield key, value

    def clear(self) -> None:
        """Remove every row of a hash."""
        for key in list(self.keys()):
            self.delete(*key)

    def close(self) -> None:
        """Let go of the map; it lives as long as something else holds it."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            with suppress(OSError):
                os.close(fd)

    def _element(self, command: int, key: int, value: int, flags: int = 0) -> None:
        _bpf(command, _ELEMENT.pack(self.fd, 0, key, value, flags), _quick)


class Cells:
    """An array of BPF_F_MMAPABLE, in our memory: rows of one or more numbers of one size.

    Each number is one aligned load or store, which x86 makes whole; a row of several is not.
    """

    def __init__(self, fd: int, value: struct.Struct) -> None:
        self.fd = fd
        self._code = value.format.lstrip("<")[0]
        self._numbers = len(value.format.lstrip("<"))
        entries = MapInfo.of(fd).max_entries
        stride = (value.size + 7) & ~7  # array_map_alloc(): rows begin at multiples of 8
        page = mmap.PAGESIZE
        size = (entries * stride + page - 1) // page * page
        self._memory = mmap.mmap(fd, size)
        self._view: memoryview[int] = memoryview(self._memory).cast(self._code)  # type: ignore[call-overload] # "I" or "Q"
        self._stride = stride // struct.calcsize(self._code)
        self._entries = entries

    def get(self, index: int) -> Row | None:
        """The row, or None beyond the end."""
        if not 0 <= index < self._entries:
            return None
        start = index * self._stride
        return tuple(self._view[start : start + self._numbers])

    def set(self, key: Row, value: Row) -> None:
        """Write the row, number by number."""
        start = key[0] * self._stride
        for offset, number in enumerate(value):
            self._view[start + offset] = number

    def delete(self, *key: Any) -> bool:  # noqa: ANN401 - as `Map` has it
        """An array's rows are always there."""
        raise OSError(EINVAL, os.strerror(EINVAL), str(key))

    def keys(self) -> Iterator[Row]:
        """Every index."""
        return ((index,) for index in range(self._entries))

    def items(self) -> Iterator[tuple[Row, Row]]:
        """Every index with its row."""
        for index in range(self._entries):
            row = self.get(index)
            if row is not None:
                yield (index,), row

    def close(self) -> None:
        """Unmap it and let go of the map."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self._view.release()
            self._memory.close()
            os.close(fd)
