# SPDX-License-Identifier: Apache-2.0
"""A name does not come, go or move before the answer."""

from __future__ import annotations

import os

import pytest
from calls import CWD
from questions import KEPT, asked, forbidden, happened, let

from monitor.events import Linked, ModeChanged, Renamed, Symlinked, Truncated, Unlinked

pytestmark = pytest.mark.tier("lsm")

_NAMED = [
    (Renamed, ("rename", "secret", "gone")),
    (Renamed, ("rename", "other", "secret")),
    (Renamed, ("renameat2", CWD, "other", CWD, "secret", 2)),
    (Linked, ("link", "secret", "alias")),
    (Unlinked, ("unlink", "secret")),
    (Truncated, ("truncate", "secret", 0)),
    (ModeChanged, ("chmod", "secret", 0o4755)),
]


def seen(directory):
    """All that a call on names could have changed."""
    return {
        name: ((directory / name).read_bytes(), (directory / name).stat().st_mode)
        for name in sorted(os.listdir(directory))
    }


@pytest.mark.parametrize(("kind", "call"), _NAMED)
def test_names_wait_and_change_when_it_is_let(inside, puppet, holds, secret, kind, call):
    puppet("chdir", puppet.place(os.fsencode(secret.parent)))
    words = [w if isinstance(w, int) else puppet.place(os.fsencode(w)) for w in call[1:]]
    before = seen(secret.parent)
    event = asked(inside, puppet, call[0], *words, kind=kind)
    assert seen(secret.parent) == before
    forbidden(holds, inside, puppet, event)
    assert seen(secret.parent) == before
    event = asked(inside, puppet, call[0], *words, kind=kind)
    assert let(holds, inside, puppet, event) == 0
    assert seen(secret.parent) != before
    happened(inside, kind)


def test_a_name_that_shall_stay_free_waits(inside, puppet, holds, scratch, watch):
    watch(scratch / "absent")
    words = [puppet.place(b"/etc"), puppet.place(os.fsencode(scratch / "absent"))]
    event = asked(inside, puppet, "symlink", *words, kind=Symlinked)
    assert not (scratch / "absent").is_symlink()
    assert let(holds, inside, puppet, event) == 0
    happened(inside, Symlinked)


def test_what_follows_an_answered_call_is_asked(inside, puppet, holds, secret):
    """The word that the hook leaves for the sensor behind it is for that call only."""
    path = puppet.place(os.fsencode(secret))
    assert let(holds, inside, puppet, asked(inside, puppet, "unlink", path, kind=Unlinked)) == 0
    secret.write_bytes(KEPT)
    event = asked(inside, puppet, "unlink", path, kind=Unlinked)
    forbidden(holds, inside, puppet, event)
    assert secret.read_bytes() == KEPT
