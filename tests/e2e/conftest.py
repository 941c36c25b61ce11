# SPDX-License-Identifier: Apache-2.0
"""One real monitor for all end-to-end tests, and a scratch place that any user can reach."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from environment import environ
from oneliner import write_rule

from agent.private_monitor import Monitor, private_monitor

_numbers = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption(
        "--write-examples", action="store_true", help="keep what the API answered as its examples"
    )


@pytest.fixture(scope="session")
def ground() -> Iterator[Path]:
    """pytest's own temporary directories are closed to everybody but their owner."""
    path = Path(tempfile.mkdtemp(prefix="estop-e2e-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def monitor(ground: Path) -> Iterator[Monitor]:
    if os.geteuid() != 0:
        pytest.skip("loads BPF: needs root")
    # Each signature is tried in several ways, and the default would disarm it half way.
    settings = environ(disarm_stops=100)
    with private_monitor(ground, "--listen", "", environ=settings) as started:
        yield started


@pytest.fixture(scope="session")
def user() -> pwd.struct_passwd:
    """The agent's user: who called sudo, for whom the checkout is readable; else root."""
    return pwd.getpwnam(os.environ.get("SUDO_USER", "root"))


@pytest.fixture
def place(ground: Path, user: pwd.struct_passwd) -> Path:
    """A home with false credentials, a copy of /etc, the agent's program; named as its session."""
    path = ground / f"e2e-{next(_numbers)}"
    home = path / "home"
    for directory in (path / "agent", home / ".aws"):
        directory.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("smol_agent.py"), path / "agent" / "agent.py")
    (home / ".aws/credentials").write_text("[default]\naws_access_key_id = none\n")
    (home / ".msmtprc").write_text("password none\n")
    subprocess.run(["cp", "-a", "/etc", path / "etc"], check=True)
    etc = path / "etc"
    for mine in (etc, etc / "hosts", etc / "profile.d", home, *home.rglob("*")):
        os.chown(mine, user.pw_uid, user.pw_gid)
    return path


@pytest.fixture
def rules(ground: Path) -> Path:
    directory = Path(f"{ground}/rules-{time.monotonic_ns()}")
    write_rule(directory, 1, "/freeze-me", "freeze")
    write_rule(directory, 2, "/kill-me", "kill")
    return directory


@pytest.fixture
def scratch(ground: Path) -> Iterator[Path]:
    directory = Path(f"{ground}/daemon-{time.monotonic_ns()}")
    directory.mkdir()
    yield directory
    if (directory / "run" / "bpf").is_mount():  # a test that failed in between
        subprocess.run(["umount", directory / "run" / "bpf"], check=True)
