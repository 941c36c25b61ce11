# SPDX-License-Identifier: Apache-2.0
"""Sessions moved from the maps of one generation of programs to those of the next, both attached.

Rows are copied as bytes: a value that has grown keeps its beginning, because new members come last.
A monitor that fails after this leaves the new programs as watchful as the old ones were.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import closing

from monitor.capture.bpf import Map, MapInfo
from monitor.capture.pins import Generation
from monitor.capture.records import RINGS
from monitor.capture.ring import RingReader

# What they look for, and how long the monitor may be silent, before there is anybody to look at. What a
# session is cut by comes before what brings its tasks in scope, and the levels come last: until then
# the new programs look at no cgroup.
_LOOKED_FOR = (
    "exempt_programs", "watched_paths", "watched_inodes", "watched_names", "watched_leaves",
    "watched_networks",
)  # fmt: skip
_CARRIED = (
    "lost", "lost_told", "budgets", "beat", "session_flags", "candidates", "answers", "answered_ns",
    "unsent", "given_up", "held", "questions", "egress", "still_since", "sockets",
    "inherited_sockets", "tasks", "cgroups", "settings",
)  # fmt: skip


def hand_over(old: Generation, new: Generation) -> None:
    """Everything that puts sessions in scope and keeps them cut."""
    there = set(old.maps()) & set(new.maps())
    for name in _LOOKED_FOR:
        if name in there:
            _copy(old.map(name), new.map(name), whole=True)
    # Twice: what forked behind the first walk's back, of a parent that the new programs did not
    # know yet, is in the old map by the second.
    for _ in range(2):
        for name in _CARRIED:
            if name in there:
                _copy(old.map(name), new.map(name))
    _forget_the_gone(new)


def unread(old: Generation) -> list[bytes]:
    """What nobody gave back to it. Acts while both were attached may be in here and come anew."""
    records: list[bytes] = []
    for name in RINGS:
        fd = old.map(name)
        with closing(RingReader(fd, MapInfo.of(fd).max_entries)) as ring:
            records += ring.read(ring.size_bytes)
        os.close(fd)
    return records


def _forget_the_gone(new: Generation) -> None:
    """Who ended where no program of the old generation told it any more: the number is a stranger's soon."""
    fd = new.map("tasks")
    with closing(_raw(fd, MapInfo.of(fd))) as tasks:
        for (key,) in list(tasks.keys()):
            if not os.path.exists(f"/proc/{int.from_bytes(key, sys.byteorder)}"):
                tasks.delete(key)


def _copy(old: int, new: int, *, whole: bool = False) -> None:
    """`whole`: only rows of the same layout, because half of one says something else."""
    ours, theirs = MapInfo.of(new), MapInfo.of(old)
    with closing(_raw(old, theirs)) as source, closing(_raw(new, ours)) as target:
        if ours.key_size != theirs.key_size:
            return  # another kind of map by the same name: nothing of it can be kept
        if whole and ours.value_size != theirs.value_size:
            return
        for key, (value,) in source.items():
            target.set(key, (value[: ours.value_size],))  # short ones are filled with zero
            # A task that ended between our two calls would be followed for ever.
            if source.get(*key) is None:
                target.delete(*key)


def _raw(fd: int, info: MapInfo) -> Map:
    return Map(fd, struct.Struct(f"{info.key_size}s"), struct.Struct(f"{info.value_size}s"))
