# SPDX-License-Identifier: Apache-2.0
"""What rules are certain about, and a file that stands for /etc/hosts."""

from __future__ import annotations

import pytest
from calls import EVERY_ACT
from refusals import KEPT

from monitor.lowered import Act, Lowered, Watch, Where


@pytest.fixture
def watch(verdicts):
    """Watch paths; the rule is certain about every act, unless told otherwise."""

    def watch(*paths, where=Where.EXACT, hold=EVERY_ACT, certain=EVERY_ACT, exempt=()):
        verdicts.replace(
            Lowered(
                watches=tuple(
                    Watch(where, str(path), Act(hold), Act(certain), frozenset(exempt))
                    for path in paths
                )
            )
        )
        found = {str(p): {(p.stat().st_dev, p.stat().st_ino)} for p in paths if p.exists()}
        if where is Where.EXACT:
            verdicts.follow(found)

    return watch


@pytest.fixture
def hosts(scratch, watch):
    """A file that stands for /etc/hosts, in a directory that stands for /etc."""
    etc = scratch / "etc"
    etc.mkdir()
    (etc / "hosts").write_bytes(KEPT)
    (etc / "other").write_bytes(b"mine\n")
    watch(etc / "hosts")
    return etc / "hosts"
