# SPDX-License-Identifier: Apache-2.0
"""Under which paths rules may know a name."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

import pytest

from monitor import events
from monitor.sessions import disguise
from monitor.sessions.places import HostMounts, Roots, resolve, view_of
from monitor.sessions.spellings import Spellings
from monitor.sessions.watched import WatchedPaths


class Session:
    mounts = None
    slot = 1
    view = view_of()
    root_pid = os.getpid()


class Looker:
    """Spellings of a directory `there`, which some see as `alias` too."""

    def __init__(self, here):
        self.mounts, self.roots = HostMounts(), Roots()
        watched = WatchedPaths([f"{here}/there/watched"])
        self.spellings = Spellings(watched, self.mounts, self.roots)

    def names(self, path, pid):
        event = events.Event(
            ktime_ns=1,
            egress_bytes=0,
            slot=1,
            tgid=pid,
            tid=pid,
            uid=0,
            view=view_of(pid),
            cut=False,
        )
        root = self.roots.root(event.view, (pid,))
        place = resolve(events.Name(None, str(path)), root)
        return self.spellings.of_name(place, event, Session(), root)


@pytest.fixture
def looker(here):
    (here / "there").mkdir()
    (here / "alias").mkdir()
    looker = Looker(here)
    yield looker
    looker.mounts.close()


@contextmanager
def seeing_an_alias(here):
    script = f"mount --bind {here}/there {here}/alias && echo && read line"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script], stdin=pipe, stdout=pipe
    ) as process:
        assert process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


def test_a_name_where_nothing_was_mounted_anew_has_one_path(looker, here):
    assert looker.names(here / "there" / "x", os.getpid()) == [f"{here}/there/x"]


@pytest.mark.kernel
def test_a_name_below_a_directory_that_was_mounted_anew_has_the_other_path_too(looker, here):
    with seeing_an_alias(here) as pid:
        names = looker.names(here / "alias" / "x", pid)
    assert names == [f"{here}/alias/x", f"{here}/there/x"]


@pytest.mark.kernel
def test_a_watched_name_is_known_among_more_mounts_than_anybody_reads(looker, here, monkeypatch):
    monkeypatch.setattr(disguise, "_MOST_BYTES", 10)
    with seeing_an_alias(here) as pid:
        names = looker.names(here / "alias" / "watched", pid)
        unwatched = looker.names(here / "alias" / "x", pid)
    assert names == [f"{here}/alias/watched", f"{here}/there/watched"]
    assert unwatched == [f"{here}/alias/x"]
