# SPDX-License-Identifier: Apache-2.0
"""The running kernel's functions by name, from its BTF; read with libbpf, which bcc brings."""

from __future__ import annotations

import ctypes

from monitor.errors import CaptureError

_KIND_FUNC = 12


class KernelBtf:
    """BTF is read once, when it is first asked: that takes seconds in an emulated guest."""

    def __init__(self) -> None:
        self._lib: ctypes.CDLL | None = None
        self._btf: int | None = None

    def function(self, name: str) -> int:
        """The number of a function, 0 if this kernel does not have it."""
        if self._lib is None:
            self._read()
        assert self._lib is not None
        return max(0, int(self._lib.btf__find_by_name_kind(self._btf, name.encode(), _KIND_FUNC)))

    def _read(self) -> None:
        try:
            lib = ctypes.CDLL("libbpf.so.1")
        except OSError as error:
            raise CaptureError(f"libbpf: {error}", mend="apt install libbpf1") from error
        lib.btf__load_vmlinux_btf.restype = ctypes.c_void_p
        lib.btf__find_by_name_kind.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]
        lib.btf__find_by_name_kind.restype = ctypes.c_int32
        self._btf = lib.btf__load_vmlinux_btf()
        if not self._btf:
            raise CaptureError("the kernel's BTF cannot be read", mend="run `estop doctor`")
        self._lib = lib
