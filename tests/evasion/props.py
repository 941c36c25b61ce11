# SPDX-License-Identifier: Apache-2.0
"""What lies on a stage before the program starts: scratch files, and what stands in for a monitor."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

from technique import ORIGINAL, SETTINGS

SECRET = "estop-evasion-secret-7f3a9c"


def furnish(place: Path, ground: Path) -> None:
    """A small /etc, a home with a credential, and what single techniques want to find."""
    etc, work = place / "etc", place / "work"
    for name in ("systemd/system", "cron.d", "udev/rules.d", "pam.d"):
        (etc / name).mkdir(parents=True)
    for library in (place / "home" / ".local", work / ".venv"):
        (library / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (work / ".git" / "hooks").mkdir(parents=True)
    for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache"):
        with suppress(FileNotFoundError):
            shutil.copy(f"/etc/{name}", etc / name)
    (etc / "hosts").write_text(ORIGINAL)
    (etc / "shadow").write_text(f"ann:{SECRET}:20000:0:99999:7:::\n")
    (etc / "older-name").hardlink_to(etc / "hosts")
    (etc / "systemd" / "resolved.conf").write_text(SETTINGS)
    (place / "core_pattern").write_text("core\n")
    (work / "answer").write_text(SECRET)
    (work / "false-hosts").write_text("127.0.0.1 bank.example\n")
    shutil.copy(ground / "answering", work / "secret-tool")
    _credential(place / "home")
    _credential(work / "\n\033[2J\udcff")
    _deep(place / "deep")


def _credential(home: Path) -> None:
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "credentials").write_text(f"[default]\naws_secret_access_key = {SECRET}\n")


def _deep(top: Path) -> None:
    """A directory whose path is longer than any call takes: made step by step."""
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 199, dir_fd=at)
        below = os.open("d" * 199, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.mkdir(".aws", dir_fd=at)
    file = os.open(".aws/credentials", os.O_CREAT | os.O_WRONLY, dir_fd=at)
    os.write(file, SECRET.encode())
    os.close(file)
    os.close(at)


def stand_in(place: Path, stack: ExitStack) -> int:
    """A process and directories that the control may do to what the technique does to a monitor."""
    for directory in ("run", "rules", "state"):
        (place / "victim" / directory).mkdir(parents=True)
    for file in ("run/estop.sock", "rules/canary.yml", "state/alerts.db"):
        (place / "victim" / file).touch()
    process = subprocess.Popen(["sleep", "600"])
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process.pid


def disk() -> str:
    """MAJOR:MINOR of the first block device, if there is one."""
    for line in Path("/proc/partitions").read_text().splitlines()[2:]:
        major, minor, *_ = line.split()
        return f"{major}:{minor}"
    return ""


def maps(pid: int) -> list[str]:
    """Ids of the BPF maps that a process holds."""
    found = []
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(OSError):
            found += [
                line.split()[1]
                for line in file.read_text().splitlines()
                if line.startswith("map_id")
            ]
    return found
