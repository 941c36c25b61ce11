# SPDX-License-Identifier: Apache-2.0
"""Under which paths rules may know a name."""

from __future__ import annotations

import os
import subprocess

import pytest

from monitor import events
from monitor.sessions.places import HostMounts, Place, Roots, view_of
from monitor.sessions.spellings import Spellings
from monitor.sessions.watched import WatchedPaths


@pytest.fixture
def spellings():
    mounts = HostMounts()
    yield Spellings(WatchedPaths([]), mounts, Roots())
    mounts.close()


def event_of(pid):
    return events.Event(
        ktime_ns=1, egress_bytes=0, slot=1, tgid=pid, tid=pid, uid=0, view=view_of(pid), cut=False
    )


class Session:
    mounts = None


def test_a_name_where_nothing_was_mounted_anew_has_one_path(spellings, here):
    place = Place(f"{here}/x")
    assert spellings.of_name(place, event_of(os.getpid()), Session()) == [f"{here}/x"]


@pytest.mark.kernel
def test_a_name_below_a_directory_that_was_mounted_anew_has_the_other_path_too(spellings, here):
    (here / "there").mkdir()
    (here / "alias").mkdir()
    script = f"mount --bind {here}/there {here}/alias && echo && read line"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script], stdin=pipe, stdout=pipe
    ) as process:
        assert process.stdout.readline()
        names = spellings.of_name(Place(f"{here}/alias/x"), event_of(process.pid), Session())
        process.communicate(b"\n")
    assert names == [f"{here}/alias/x", f"{here}/there/x"]
