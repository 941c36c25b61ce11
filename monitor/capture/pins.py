# SPDX-License-Identifier: Apache-2.0
"""What outlives the daemon: generations of pinned maps and links, loaded, taken over, removed.

    <runtime_dir>/bpf/                   a bpffs of our own (`bpffs.py`)
        new_<digest>_<n>/                half a generation, loaded or removed: removed at the next start
        <digest>_<n>/                    a whole one, by rename of the above
            tier -> lsm                  a symbolic link whose text is the tier
            missing -> lsm__...          another: programs that this kernel has no hook for, or `-`
            maps/NAME                    every map of bpf/
            programs/PROGRAM             those that hang somewhere only while there is a session
            links/PROGRAM                every program that hangs somewhere now

A bpffs holds directories, symbolic links and pins and no file, and allows no dot in a name; the
rename of a directory is what makes a generation whole in one step. Tail-called programs are kept by
the pinned map `handlers`. One daemon for each runtime directory, by a lock on it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from monitor.capture import bpf, bpffs, wire
from monitor.capture.attach import attach
from monitor.capture.programs import PROGRAMS, KernelSettings, linked
from monitor.errors import CaptureError
from monitor.tier import Tier

_HALF = "new_"
_LOAD_S = 600.0  # compiling takes a second here, and more than a minute in an emulated guest
_LAST_LINES = 12


class Generation:
    """One whole set of pins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest, _, number = path.name.rpartition("_")
        self.number = int(number)

    @property
    def tier(self) -> Tier:
        """What it was loaded for."""
        return Tier(os.readlink(self.path / "tier"))

    @property
    def missing(self) -> list[str]:
        """Programs of this tier that the kernel has no hook for."""
        return [name for name in os.readlink(self.path / "missing").split() if name != "-"]

    def linked(self) -> list[str]:
        """Programs that hang at a link of their own here, or could."""
        missing = self.missing
        return [name for name in linked(self.tier) if name not in missing]

    def hanging(self) -> list[str]:
        """Those of them that should hang there now."""
        there = set(os.listdir(self.path / "links"))
        return [n for n in self.linked() if n in there or not PROGRAMS[n].rests]

    def wake(self) -> None:
        """Hang up what rests; where an earlier monitor was killed over that, what is left of it."""
        hanging = set(self.hanging())
        for name in self.linked():
            if name not in hanging:
                program = self._get("programs", name)
                try:
                    link = attach(name, PROGRAMS[name], program)
                finally:
                    os.close(program)
                try:
                    bpf.pin(link, str(self.path / "links" / name))
                finally:
                    os.close(link)

    def rest(self) -> None:
        """Take down what nobody needs without a session."""
        for name in self.hanging():
            if PROGRAMS[name].rests:
                (self.path / "links" / name).unlink()

    def map(self, name: str) -> int:
        """A descriptor of a map; CaptureError if it is not pinned."""
        return self._get("maps", name)

    def link(self, program: str) -> int:
        """A descriptor of a program's link."""
        return self._get("links", program)

    def maps(self) -> list[str]:
        """Names of the maps."""
        return sorted(os.listdir(self.path / "maps"))

    def whole(self) -> bool:
        """Is every program that should hang somewhere still pinned, and hanging?"""
        if {n for n in self.linked() if PROGRAMS[n].rests} - set(
            os.listdir(self.path / "programs")
        ):
            return False
        for program in self.hanging():
            try:
                fd = self.link(program)
            except CaptureError:
                return False
            attached = bpf.link_is_attached(fd)
            os.close(fd)
            if not attached:
                return False
        return True

    def remove(self) -> None:
        """Unpin everything: what nobody else holds is detached. What refuses goes first."""
        # No longer whole, in one step: who is killed below leaves a half to the next, and no maps whose
        # rows would be taken for the sessions' own.
        half = self.path.rename(self.path.with_name(_HALF + self.path.name))
        # The other way round, a packet could pass between the loss of a map and of its program.
        for part in ("links", "programs", "maps"):
            with suppress(FileNotFoundError):
                shutil.rmtree(half / part)
        shutil.rmtree(half)

    def _get(self, part: str, name: str) -> int:
        try:
            return bpf.get(str(self.path / part / name))
        except OSError as error:
            raise CaptureError(
                f"{self.path / part / name}: {error.strerror}", mend="run `estop unload`"
            ) from error


class Pins:
    """The pins of one runtime directory, while this process holds its lock."""

    def __init__(self, runtime_dir: Path) -> None:
        self.directory = runtime_dir / "bpf"
        self._lock = os.open(runtime_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise CaptureError(
                f"another estop daemon serves {runtime_dir}",
                mend="stop it, or give this one another --runtime-dir",
            ) from error

    def generations(self) -> list[Generation]:
        """The whole ones, the newest last."""
        if not bpffs.is_mounted(self.directory):
            return []
        names = [n for n in os.listdir(self.directory) if "." not in n]
        for name in names:
            if not name.rpartition("_")[2].isdigit():
                raise CaptureError(
                    f"{self.directory / name} is not estop's",
                    mend=f"remove {self.directory / name}",
                )
        whole = [Generation(self.directory / n) for n in names if not n.startswith(_HALF)]
        return sorted(whole, key=lambda g: g.number)

    def load(self, settings: KernelSettings) -> Generation:
        """A new generation, compiled and pinned by a child, beside what there is."""
        bpffs.mount(self.directory)
        number = max((g.number for g in self.generations()), default=0) + 1
        whole = self.directory / f"{settings.digest()}_{number}"
        half = self.directory / (_HALF + whole.name)
        half.mkdir(mode=0o700)
        try:
            self._run_loader(half, settings)
        except BaseException:
            self.remove_halves()
            raise
        half.rename(whole)
        return Generation(whole)

    def _run_loader(self, half: Path, settings: KernelSettings) -> dict[str, Any]:
        asked = {"directory": str(half), "settings": settings.words()}
        try:
            done = subprocess.run(
                # -P and the root directory: neither a module nor a vmlinux.h may come from where
                # the daemon happens to stand.
                [sys.executable, "-P", "-m", "monitor.capture.load"],
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                errors="replace",
                cwd="/",
                timeout=_LOAD_S,
                check=False,
                pass_fds=(self._lock,),  # it may outlive us, and nobody shall load beside it
            )
        except subprocess.TimeoutExpired as error:
            raise CaptureError(f"the programs did not load within {_LOAD_S:.0f} s") from error
        said = "\n".join(done.stderr.splitlines()[-_LAST_LINES:])
        try:
            report: dict[str, Any] = json.loads(done.stdout)
        except ValueError as error:
            raise CaptureError(
                f"the loader ended with {done.returncode}:\n{said}", mend="run `estop doctor`"
            ) from error
        if "error" in report:
            raise CaptureError(
                "\n".join(filter(None, (report["error"], said))), mend=report["mend"]
            )
        return report

    def remove_halves(self) -> None:
        """What was left by who did not come to the end of loading or removing."""
        there = os.listdir(self.directory) if bpffs.is_mounted(self.directory) else ()
        for name in there:
            if name.startswith(_HALF):
                shutil.rmtree(self.directory / name)

    def remove(self) -> None:
        """Everything: all programs are detached unless somebody holds them elsewhere."""
        for generation in self.generations():
            generation.remove()
        if bpffs.is_mounted(self.directory):
            bpffs.unmount(self.directory)

    def close(self) -> None:
        """Let go of the lock; the pins stay."""
        os.close(self._lock)


def unload(runtime_dir: Path) -> list[int] | None:
    """Remove the pins that a daemon left; None if there are none. CaptureError while one runs.

    The processes that the kernel stopped until a monitor comes, in sessions that nobody stopped: no
    program stops them again now, and none knows of them any more.
    """
    if not runtime_dir.is_dir():
        return None
    with closing(Pins(runtime_dir)) as pins:
        if not bpffs.is_mounted(pins.directory):
            return None
        # Read afterwards: until the programs are gone, more are stopped. Maps outlive their pins here.
        maps = [(g.map("held"), g.map("session_flags")) for g in pins.generations()]
        pins.remove()
        return [pid for held, flags in maps for pid in _waiting(held, flags)]


def _waiting(held: int, flags: int) -> list[int]:
    number, hold = struct.Struct("<I"), wire.HOLD.packed
    with (
        closing(bpf.Map(held, number, hold)) as rows,
        closing(bpf.Map(flags, number, number)) as of,
    ):
        known = {pid: row[0] for (pid,), row in rows.items()}
        stopped = {s for s in set(known.values()) if (of.get(s) or (0,))[0] & wire.QUARANTINED}
        return [pid for pid, session in known.items() if session not in stopped]
