# SPDX-License-Identifier: Apache-2.0
"""A machine of its own for one command: a stock kernel under emulation, this tree, its own /tmp.

The guest reads the host's files over 9p and writes into memory only, but for what it compiles, which the
next guest finds; the usual programs are compiled for it out here, which takes minutes there. What it asks
for, what the command says and how it ends go through one shared directory: the virtio ports that virtme-ng
uses for that need udev, which containers lack, and without them its exit status is always 255.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.vm.compile import BUILD
from tests.vm.kernels import CACHE, GuestError, Kernel

PROJECT = Path(__file__).parents[2]
SHARE = "/run/estop/share"
KEPT = "/run/estop/kept"
"""Where the guest finds what is compiled, and leaves what it compiled itself."""
TREE = "/run/estop/tree"
_MEMORY = "3G"
_PROGRAMS = CACHE / "programs"
_COMPILED = "compiled"
_LOOK_AGAIN_S = 0.2
_CONSOLE_LINES = 30
# Before 8.1, QEMU's emulation (Debian 12 has 7.2) now and then runs what a processor had translated
# before another one patched that code: one boot in some hundreds dies of an int3 in its second
# second, and, seldom, one later, where a program was just attached to an LSM hook or taken off it. https://bugzilla.redhat.com/show_bug.cgi?id=2216496
_BOOTS = 3


@dataclass(frozen=True, kw_only=True)
class Guest:
    """What to boot, and for how long at most."""

    kernel: Kernel
    root: Path = Path("/")
    take: Sequence[str] = ()
    """Files of the project that the command may change, and the change is wanted here."""
    timeout_s: float
    counted: bool = False
    """Its clock counts instructions, one for a nanosecond, on one processor: a figure is then the same on
    every machine, whatever else that does."""

    def run(self, command: Sequence[str]) -> int:
        """Run a command in the project's directory, show what it says, return its exit status.

        A kernel that panics before the command has begun, or of an int3, is booted again. Raises
        GuestError if the guest did not get that far, or takes too long.
        """
        for boots_left in reversed(range(_BOOTS)):
            with tempfile.TemporaryDirectory(prefix="estop-guest-") as name:
                share = Path(name)
                self._boot(command, share)
                if boots_left and _panicked_by_emulation(share):
                    print("the guest's kernel panicked by its emulation: once more", flush=True)
                    continue
                status = _status(share)
                for file in self.take:
                    shutil.copyfile(share / "taken" / file, PROJECT / file)
                return status
        raise AssertionError("the last boot returns or raises")

    def _boot(self, command: Sequence[str], share: Path) -> None:
        (share / "project").write_text(f"{PROJECT}\n")
        (share / "modules").write_text(f"{self.kernel.directory}\n")
        (share / "command").write_text("".join(f"{word}\0" for word in command))
        (share / "take").write_text("".join(f"{name}\0" for name in self.take))
        (share / "output").touch()
        with (share / "console").open("wb") as console:
            # No terminal, no signals: Ctrl-C reaches us, and the guest ends with us.
            process = subprocess.Popen(
                [*_DIES_WITH_US, *self._virtme(share)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=console,
                start_new_session=True,
            )
        try:
            self._follow(process, share)
        finally:
            process.kill()
            process.wait()

    def _virtme(self, share: Path) -> list[str]:
        _PROGRAMS.mkdir(parents=True, exist_ok=True)
        cpus = 1 if self.counted else min(len(os.sched_getaffinity(0)), 4)
        return [
            str(Path(sys.executable).parent / "virtme-run"),
            f"--kimg={self.kernel.image}",
            f"--root={self.root}",
            "--mods=auto",
            "--disable-kvm",  # the same on every machine, and nested KVM breaks
            "--disable-microvm",
            "--force-9p",  # virtiofs wants a daemon
            f"--memory={_MEMORY}",
            f"--cpus={cpus}",
            f"--rwdir={SHARE}={share}",
            f"--rwdir={KEPT}={_PROGRAMS}",
            f"--rodir={TREE}={PROJECT}",
            "--overlay-rwdir=/etc",  # also what puts the overlay module into the initramfs
            "--show-boot-console",
            f"--script-sh=exec bash {TREE}/tests/vm/inside.sh",
            *(("--qemu-opts", "-icount", "shift=0") if self.counted else ()),
        ]

    def _follow(self, process: subprocess.Popen[bytes], share: Path) -> None:
        end = time.monotonic() + self.timeout_s
        with (share / "output").open("rb") as news:
            while process.poll() is None:
                _show(news)
                if (share / BUILD).exists() and not (share / _COMPILED).exists():
                    _compile(share)
                if time.monotonic() > end:
                    raise GuestError(f"the guest did not end within {self.timeout_s:.0f} s")
                time.sleep(_LOOK_AGAIN_S)
            _show(news)


# A process namespace: whatever ends us or virtme-run (kill -9 too) ends its QEMU.
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child")


def _compile(share: Path) -> None:
    command = [sys.executable, "-m", "tests.vm.compile", str(share), str(_PROGRAMS)]
    if subprocess.run(command, cwd=PROJECT, check=False).returncode:
        raise GuestError("the programs do not compile for this guest, see above")
    (share / _COMPILED).touch()


def _show(news: BinaryIO) -> None:
    sys.stdout.buffer.write(news.read())
    sys.stdout.flush()


def _panicked_by_emulation(share: Path) -> bool:
    began = (share / "output").stat().st_size > 0
    console = (share / "console").read_bytes()
    return b"Kernel panic" in console and (not began or b"int3:" in console)


def _status(share: Path) -> int:
    try:
        return int((share / "status").read_text())
    except (FileNotFoundError, ValueError):
        console = (share / "console").read_text(errors="replace").splitlines()[-_CONSOLE_LINES:]
        raise GuestError("\n".join(["the guest did not come up; it said:", *console])) from None
