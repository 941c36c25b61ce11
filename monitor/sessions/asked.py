# SPDX-License-Identifier: Apache-2.0
"""An open that waits for our word, as the event it would be; the word itself is given elsewhere.

It is judged like an open that happened. What the kernel side reads from dentries is read from
procfs here, while the asker is asleep; who has a private mount namespace cannot change it meanwhile.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from monitor.events import Access, File, Opened, Verdict
from monitor.events import Path as Place
from monitor.sessions.disguise import MountTable
from monitor.sessions.places import below, unescape, view_of

_OWN_MOUNTS = Path("/proc/self/mountinfo")


class Asked(Protocol):
    """`capture.question.Question`, as far as an event needs it."""

    ktime_ns: int
    slot: int
    pid: int
    tid: int
    access: Access
    device: int
    inode: int
    mode: int
    links: int
    path: str
    mount: int


def opened(asked: Asked, egress_bytes: int) -> Opened:
    """The event, as refused: if it is not, it is no event.

    What cannot be read because the asker was killed is left at its nearest guess. The thread is asked
    for and not its process, of which the main one may have ended. `egress_bytes` is what has left the
    session by now.
    """
    path = asked.path
    if not asked.links:
        path = path.removesuffix(" (deleted)")  # procfs adds it
    place = _place(asked, path)
    return Opened(
        ktime_ns=asked.ktime_ns,
        egress_bytes=egress_bytes,
        slot=asked.slot,
        tgid=asked.pid,
        tid=asked.tid,
        uid=_uid_of(asked.tid),
        view=view_of(asked.tid),
        cut=False,
        file=File(
            place,
            asked.inode,
            _parent_inode(asked.tid, place.text),
            asked.mode,
            asked.links,
        ),
        # Of what is not known yet the weakest is judged here; its record will tell the rest.
        access=asked.access or Access.READ,
        repeats=0,
        verdict=Verdict.REFUSED,
    )


def _place(asked: Asked, path: str) -> Place:
    text = below(path, _root_of(asked.tid))
    table = b"\n" + _read(f"/proc/{asked.tid}/mountinfo")
    start = table.find(b"\n%d " % asked.mount)
    if start >= 0:
        row = os.fsdecode(table[start + 1 : table.find(b"\n", start + 1)])
        fields = row.split(" ", 5)  # id, parent, major:minor, root, mount point: proc(5)
        root, point = unescape(fields[3]).rstrip("/"), unescape(fields[4]).rstrip("/")
        if text == point or text.startswith(point + "/"):  # a mount may be of a single file
            return Place(text, root + text.removeprefix(point), asked.device)
    return Place(text, _within(path, asked.device), asked.device)


def _within(path: str, device: int) -> str:
    """In its file system, by our own mounts: to who has changed his root the one it lies on is not shown."""
    found, within = MountTable(_OWN_MOUNTS).file(path)
    return within if found == device else path


def _root_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/root")
    except OSError:
        return "/"


def _parent_inode(pid: int, text: str) -> int:
    try:
        return os.stat(f"/proc/{pid}/root{os.path.dirname(text)}").st_ino
    except OSError:
        return 0


def _uid_of(pid: int) -> int:
    """The effective one, which is nearly always the real one, and costs a tenth of `status`."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return 0


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
