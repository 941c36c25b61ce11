# SPDX-License-Identifier: Apache-2.0
"""The table of system calls agrees with the kernel's own headers and with bpf/syscall.h."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from monitor.capture import syscalls

BPF = Path(__file__).parents[2] / "bpf"

# Newer than the headers of the oldest system we run on.
_MAY_BE_UNKNOWN = {"fchmodat2"}


def _numbers(header: str) -> dict[str, int]:
    source = f"#include <asm/{header}>\n"
    command = ["cc", "-E", "-dM", "-x", "c", "-"]
    out = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in out.splitlines() if line.startswith("#define __NR_"))
    return {row[1].removeprefix("__NR_"): int(row[2]) for row in rows if row[2].isdigit()}


@pytest.mark.parametrize(
    ("header", "attribute"), [("unistd_64.h", "number"), ("unistd_32.h", "compat")]
)
def test_every_number_is_the_one_of_the_installed_header(header, attribute):
    known = _numbers(header)
    assert len(known) > 300
    for shape in syscalls.SHAPES:
        number = getattr(shape, attribute)
        if number is None or (shape.name in _MAY_BE_UNKNOWN and shape.name not in known):
            continue
        assert known[_header_name(shape.name, attribute)] == number, shape.name


def _header_name(name: str, attribute: str) -> str:
    # The 32-bit entry kept the first setuid for 16-bit ids and added the real one under a new name.
    # The table has the names of the functions: `setuid16` and `setuid`.
    wide = {"setuid", "setreuid", "setresuid", "setgid", "setregid", "setresgid"}
    if attribute == "compat" and name in wide:
        return name + "32"
    return name.removesuffix("16")


def test_no_two_calls_share_a_row():
    numbers = [s.number for s in syscalls.SHAPES if s.number is not None]
    compat = [s.compat for s in syscalls.SHAPES if s.compat is not None]
    assert len(syscalls.rows()) == len(numbers) + len(compat)


def test_handlers_are_numbered_as_in_the_header():
    text = (BPF / "syscall.h").read_text()
    body = text[text.index("enum estop_handler {") : text.index("ESTOP_ON_MAX")]
    names = [line.strip().split(",")[0] for line in body.splitlines() if "ESTOP_ON_" in line]
    assert {n.removeprefix("ESTOP_ON_"): i for i, n in enumerate(names)} == {
        handler.name: handler.value for handler in syscalls.Handler
    }
