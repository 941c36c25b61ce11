# SPDX-License-Identifier: Apache-2.0
"""The header tree is made once, for this kernel, and never seen half done."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from monitor.capture import headers
from monitor.errors import RequirementError

pytestmark = pytest.mark.skipif(
    not os.access(headers.BTF, os.R_OK), reason="this kernel shows no BTF"
)


def test_another_process_finds_the_tree_that_the_first_one_made(tmp_path):
    tree = headers.header_tree(tmp_path)
    ask = "import sys, pathlib; from monitor.capture.headers import header_tree as t;"
    ask += "print(t(pathlib.Path(sys.argv[1])))"
    out = subprocess.run(
        [sys.executable, "-c", ask, tmp_path], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == str(tree)
    assert [p.name for p in tmp_path.iterdir()] == [tree.name]


def test_the_tree_has_the_layouts_of_this_kernel(tmp_path):
    tree = headers.header_tree(tmp_path)
    assert "struct task_struct {" in (tree / "include/linux/vmlinux.h").read_text()


@pytest.mark.parametrize(
    ("release", "code"),
    [("6.1.0-13-amd64", 0x060100), ("5.15.300+", 0x050FFF), ("6.18", 0x061200)],
)
def test_the_version_is_read_from_the_release(release, code):
    assert f"#define LINUX_VERSION_CODE {code}\n" in headers._version_header(release)


def test_without_btf_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "BTF", tmp_path / "none")
    with pytest.raises(RequirementError, match="does not exist") as caught:
        headers.header_tree(tmp_path / "cache")
    assert "CONFIG_DEBUG_INFO_BTF" in caught.value.mend


def test_without_bpftool_the_error_names_it_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequirementError, match="bpftool"):
        headers.header_tree(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_helpers_that_an_older_kernel_lacks_have_the_numbers_this_kernel_gives_them(tmp_path):
    tree = headers.header_tree(tmp_path)
    vmlinux = (tree / "include/linux/vmlinux.h").read_text()
    numbers = dict(re.findall(r"\bBPF_FUNC_(\w+) = (\d+),", vmlinux))
    missing = headers._missing_helpers("BPF_FUNC_timer_init = 169,")
    defined = dict(re.findall(r"#define BPF_FUNC_(\w+) (\d+)\n", missing))
    assert "cgrp_storage_delete" in defined
    assert "timer_init" not in defined
    assert {name: numbers.get(name, number) for name, number in defined.items()} == defined
