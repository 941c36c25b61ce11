# SPDX-License-Identifier: Apache-2.0
"""Stock Debian kernels for guests: found with apt, unpacked into a cache, never installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CACHE = Path("build/guest").resolve()


class GuestError(Exception):
    """A guest cannot be had; the text says what to do about it."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked package `linux-image-RELEASE`."""

    release: str
    directory: Path

    @property
    def image(self) -> Path:
        return self.directory / f"boot/vmlinuz-{self.release}"


def kernel(series: str) -> Kernel:
    """The newest kernel of a series ("6.12") that apt offers, from the cache if it is there.

    Raises GuestError if there is none.
    """
    release = newest(series, _offered(series))
    if release is None:
        _apt_get("update")  # a fresh container has no lists
        release = newest(series, _offered(series))
    if release is None:
        raise GuestError(
            f"apt offers no linux-image-{series}.*-amd64: "
            f"add the distribution that has it (Debian 12: bookworm-security) to apt's sources"
        )
    directory = CACHE / f"linux-{release}"
    if not directory.exists():
        _unpack(release, directory)
    return Kernel(release, directory)


def _offered(series: str) -> list[str]:
    if not shutil.which("apt-cache"):
        raise GuestError("the kernels are Debian's packages: a guest needs a host with apt")
    command = ["apt-cache", "pkgnames", f"linux-image-{series}."]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def newest(series: str, packages: Iterable[str]) -> str | None:
    """The newest release of a series among packages; None if there is none.

    The flavours -cloud- (it lacks 9p) and -rt- are not meant, nor is the empty package -6.12-amd64.
    """
    wanted = re.compile(rf"linux-image-({re.escape(series)}\.[^-]+(-\d+)?-amd64)")
    releases = [match[1] for match in map(wanted.fullmatch, packages) if match]
    return max(releases, key=_version, default=None)


def _version(release: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", release))


def _apt_get(*arguments: str, cwd: Path | None = None) -> None:
    # As root: apt's own user may not write into a directory of ours.
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", *arguments]
    if subprocess.run(command, cwd=cwd, check=False).returncode:
        raise GuestError(f"apt-get {arguments[0]} failed, see above")


@contextmanager
def in_the_making(directory: Path) -> Iterator[Path]:
    """A directory that appears under its name only when it is whole; the first of two runs wins."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        yield scratch
        scratch.chmod(0o755)
        if not directory.exists():
            os.rename(scratch, directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpack(release: str, directory: Path) -> None:
    package = f"linux-image-{release}"
    print(f"estop: fetching {package}", flush=True)
    with tempfile.TemporaryDirectory() as name, in_the_making(directory) as root:
        downloads = Path(name)
        try:
            _apt_get("download", package, cwd=downloads)
        except GuestError:
            _apt_get("update")  # the lists may name a version that was replaced
            _apt_get("download", package, cwd=downloads)
        (archive,) = downloads.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, root], check=True)
        subprocess.run(["depmod", "-b", root, release], check=True)
