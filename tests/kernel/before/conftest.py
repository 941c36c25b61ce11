# SPDX-License-Identifier: Apache-2.0
"""What a rule may be about, and a file that stands for credentials."""

from __future__ import annotations

import pytest
from calls import EVERY_ACT
from questions import KEPT

from monitor.lowered import Act, Lowered, Watch, Where


@pytest.fixture
def watch(verdicts):
    """Watch paths: a rule may be about them, and is certain about nothing."""

    def watch(*paths, hold=EVERY_ACT):
        watches = tuple(Watch(Where.EXACT, str(p), Act(hold), Act.NOTHING) for p in paths)
        verdicts.replace(Lowered(watches=watches))
        there = [p for p in paths if p.exists()]
        verdicts.follow({str(p): {(p.stat().st_dev, p.stat().st_ino)} for p in there})

    return watch


@pytest.fixture
def secret(scratch, watch):
    """A file that stands for credentials, and one beside it that nobody watches."""
    home = scratch / "home"
    home.mkdir()
    (home / "secret").write_bytes(KEPT)
    (home / "other").write_bytes(b"mine\n")
    watch(home / "secret")
    return home / "secret"
