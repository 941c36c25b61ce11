# SPDX-License-Identifier: Apache-2.0
"""What a technique is, what can come of it, and the scene it is tried on; nothing runs here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from monitor.sessions import cgroups

ORIGINAL = "127.0.0.1 localhost\n"
SETTINGS = "[Resolve]\n"


class Outcome(StrEnum):
    """What was observed, worst first."""

    MISSED = "missed"
    DETECTED = "detected only"
    FROZEN_AFTER = "frozen after"
    HELD = "held"
    PREVENTED = "prevented"

    @property
    def rank(self) -> int:
        return list(Outcome).index(self)


MEANING = {
    Outcome.PREVENTED: "the act had no effect: it was refused, or nothing went on after the stop",
    Outcome.HELD: "the kernel stopped the process on its way out of the system call, before it could "
    "make use of it; then the session was frozen. What the call itself changed, a name or a length, it "
    "had changed for everybody",
    Outcome.FROZEN_AFTER: "the session was frozen by the monitor's word; the act had its effect, or could "
    "have had, for a freeze that won the race this time promises nothing",
    Outcome.DETECTED: "the act had its effect and the session ran on; there is an alert",
    Outcome.MISSED: "the act had its effect, and nobody noticed",
}


@dataclass(frozen=True, slots=True)
class Scene:
    """Where one try takes place: its directory, its stage, its processes, its target."""

    place: Path
    stage: int
    """The pid through which the stage's mounts are seen."""
    cgroup: Path
    """Everything of the stage that is in no session; below it `away`, for who wants to move."""
    secret: str
    victim: int
    """The monitor, or in the control a process that stands in for it."""
    victim_dir: Path
    """Its rules, state and runtime directories, or copies."""
    session: Path | None = None
    """The session's cgroup; None in the control."""

    def output(self) -> str:
        file = self.place / "out"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def received(self, file: str) -> bytes:
        path = self.place / file
        return path.read_bytes() if path.exists() else b""

    def processes(self) -> set[int]:
        """Those that carry out the technique, wherever they moved."""
        places = [self.cgroup]
        places += [self.session] if self.session and self.session.exists() else []
        return {pid for place in places for pid in cgroups.members(place)} - {self.stage}

    def begun(self) -> set[int]:
        """Those of them that are a program by now; the launcher's Python is none, and knows the secret."""
        images = {pid: image(pid).name for pid in self.processes()}
        return {pid for pid, name in images.items() if name and not name.startswith("python")}

    def views(self) -> list[Path]:
        """The file system as the stage sees it and as each process does: mounts differ."""
        return [Path(f"/proc/{pid}/root") for pid in (self.stage, *self.processes())]


def image(pid: int) -> Path:
    """What a process runs; nothing if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/exe").readlink()
    return Path()


Effect = Callable[[Scene], bool]


@dataclass(frozen=True, slots=True)
class Technique:
    """One way past a monitor. `program` is the source that has a function of this `id`."""

    id: str
    program: str
    what: str
    effect: Effect
    gap: str = ""
    """Why it is not stopped where it is not, shown in the table."""
    world: bool = False
    """Needs other processes on the stage: servers, somebody with a secret."""
    inherits: str = ""
    """What was open before and is handed to it: `hosts`, `credential` or `socket`, as INHERITED_FD."""
    control: bool = True
    """False where it cannot be tried without a monitor."""
    attach: bool = False
    """The process is there first; the monitor is told of it later."""
    twin: str = ""
    """Of the technique that is the same but for `attach`: without a monitor there is no difference."""
    then_kill: bool = False
    """A person kills the frozen session before the effect is looked for."""
    damages: bool = False
    """The monitor may not be the same afterwards: unless all of it was prevented, another takes over."""
    undoes_hold: bool = False
    """It goes on although it is held: a hold that kept it this time promises nothing."""
    late: bool = False
    """The effect comes, if it comes, some time after the act."""

    @property
    def family(self) -> str:
        """`F7` of `F7-rename`."""
        return self.id.partition("-")[0]


def attached(technique: Technique, gap: str) -> Technique:
    """`F15-attached-handle` of `F15-handle`: the same, without what a launch puts around a session."""
    family, _, act = technique.id.partition("-")
    return replace(
        technique,
        id=f"{family}-attached-{act}",
        what=f"{technique.what}; the session was attached",
        gap=gap,
        attach=True,
        twin=technique.id,
    )
