# SPDX-License-Identifier: Apache-2.0
"""Which files the kernel side knows by the device that they have for us."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.response.devices import unknown_to_the_kernel


def test_files_of_a_mounted_filesystem_are_known_and_what_is_not_there_is_nobody():
    assert not unknown_to_the_kernel(["/proc/version", "/dev/null"])
    assert not unknown_to_the_kernel(["/none", "/proc/none"])


@pytest.mark.kernel
@pytest.mark.parametrize(("layer", "known"), [("one", True), ("two", False)])
def test_files_of_an_overlay_are_known_where_its_layers_are_of_one_filesystem(
    tmp_path, layer, known
):
    script = f"""
        cd {tmp_path} && mkdir one two merged && mount -t tmpfs one one &&
        mount -t tmpfs two two && mkdir one/up one/work {layer}/low && touch {layer}/low/file &&
        mount -t overlay -o lowerdir={layer}/low,upperdir=one/up,workdir=one/work none merged &&
        exec "$0" -c "from monitor.response.devices import unknown_to_the_kernel as unknown
raise SystemExit(unknown(['merged/file']) is {known})"
    """
    view = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    assert subprocess.run([*view, sys.executable], env=environ, check=False).returncode == 0
