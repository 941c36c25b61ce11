# SPDX-License-Identifier: Apache-2.0
"""What is fetched for a Python that is not this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.locked_for import locked_for

_LOCK = """\
both==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
old==1.0 ; python_full_version < '3.12' \\
    --hash=sha256:cc
old==2.0 ; python_full_version >= '3.12' \\
    --hash=sha256:dd
elsewhere==1.0 ; sys_platform == 'win32' \\
    --hash=sha256:ee
"""


@pytest.mark.parametrize(
    ("version", "pin", "hashed"), [("3.11", "1.0", "cc"), ("3.13", "2.0", "dd")]
)
def test_only_what_holds_for_that_python_is_left_and_its_hashes_with_it(version, pin, hashed):
    assert locked_for(_LOCK, version) == (
        "both==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        f"old=={pin} \\\n    --hash=sha256:{hashed}\n"
    )


def test_nothing_of_the_lock_is_lost():
    lock = Path(__file__).parents[2].joinpath("requirements.lock").read_text()
    unmarked = [line for line in lock.splitlines() if line[:1].isalnum() and ";" not in line]
    assert set(unmarked) <= set(locked_for(lock, "3.13").splitlines())
    assert len(unmarked) > 50
