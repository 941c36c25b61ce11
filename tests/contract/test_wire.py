# SPDX-License-Identifier: Apache-2.0
"""bpf/event.h, bpf/maps.h and monitor/capture/wire.py say the same, by the word of a C compiler."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from monitor import events, lowered
from monitor.capture import kernel, wire
from monitor.lowered import Act
from monitor.response.holds import Answer, Reason

BPF = Path(__file__).parents[2] / "bpf"

_PROGRAM = """
#include <stddef.h>
#include <stdio.h>
#define BPF_ARRAY(...)
#define BPF_F_TABLE(...)
#define BPF_HASH(...)
#define BPF_LPM_TRIE(...)
#define BPF_TABLE(...)
#define BPF_RINGBUF_OUTPUT(...)
#include "maps.h"
int main(void) {{
{lines}
return 0;
}}
"""


def _ask_compiler(tmp_path: Path, lines: list[str]) -> dict[str, int]:
    source = tmp_path / "ask.c"
    source.write_text(_PROGRAM.format(lines="\n".join(lines)))
    program = tmp_path / "ask"
    command = ["cc", "-Wall", "-Wpadded", "-Werror", f"-I{BPF}", "-o", program, source]
    subprocess.run(command, check=True)
    out = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in (row.split() for row in out.splitlines())}


def _show(name: str, expression: str) -> str:
    return f'printf("%s %lld\\n", "{name}", (long long)({expression}));'


@pytest.mark.parametrize(
    "layout", [*wire.LAYOUTS, *wire.MAP_LAYOUTS], ids=lambda layout: layout.name
)
def test_every_member_lies_where_c_puts_it_and_nothing_is_padded(layout, tmp_path):
    lines = [_show("size", f"sizeof(struct {layout.name})")]
    offset, expected = 0, {"size": layout.size}
    for member, code in layout.members:
        lines.append(_show(member, f"offsetof(struct {layout.name}, {member})"))
        expected[member] = offset
        offset += struct.calcsize("<" + code)
    assert _ask_compiler(tmp_path, lines) == expected


def test_kinds_and_operations_have_the_numbers_of_the_header(tmp_path):
    names = {f"ESTOP_{kind.name}": kind.value for kind in wire.Kind}
    names |= {f"ESTOP_OP_{op.name}": op.value for op in wire.Operation}
    names["ESTOP_TEXT_CUT"] = wire.TEXT_CUT
    names |= {f"ESTOP_{v.name}": v.value for v in events.Verdict if v}
    names |= {f"ESTOP_ACT_{act.name}": act.value for act in Act}
    names |= {f"ESTOP_HELD_{reason.name}": reason.value for reason in Reason}
    assert _ask_compiler(tmp_path, [_show(name, name) for name in names]) == names


def test_flags_and_bounds_of_the_maps_have_the_numbers_of_the_header(tmp_path):
    names = {"ESTOP_LIVE": wire.LIVE, "ESTOP_QUARANTINED": wire.QUARANTINED}
    names |= {"ESTOP_OBSERVED": wire.OBSERVED, "MAX_LEVEL": wire.MAX_LEVEL}
    names |= {f"ESTOP_{answer.name}": answer.value for answer in Answer}
    sizes = ("NAMES_BYTES", "PARENT_BYTES", "PARENTS", "PORTS", "MAX_WATCHES")
    names |= {name: getattr(lowered, name) for name in sizes}
    names["WATCHED_NAME_BYTES"] = lowered.NAME_BYTES
    assert _ask_compiler(tmp_path, [_show(name, name) for name in names]) == names


def test_every_struct_of_the_header_has_a_mirror():
    text = (BPF / "event.h").read_text()
    records = {line.split()[1] for line in text.splitlines() if line.startswith("struct estop_")}
    parts = {"estop_wire_path", "estop_wire_file", "estop_wire_name"}
    assert records - parts == {layout.name for layout in wire.LAYOUTS}


def test_the_names_of_losses_follow_the_order_of_the_kernels_counters():
    text = (BPF / "maps.h").read_text()
    body = text[text.index("enum estop_hook {") : text.index("ESTOP_LOST_MAX")]
    names = [
        line.strip().removeprefix("ESTOP_LOST_").split(",")[0].lower()
        for line in body.splitlines()
        if line.strip().startswith("ESTOP_LOST_")
    ]
    assert tuple(names) == kernel.LOST_HOOKS
