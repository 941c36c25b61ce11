# SPDX-License-Identifier: Apache-2.0
"""A guest gives back what its command did, changes nothing out here, and ends with whoever asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.vm.guest import KEPT, Guest, _panicked_by_emulation
from tests.vm.kernels import GuestError, kernel, newest

PROJECT = Path(__file__).parents[2]


def guest(*arguments):
    return [sys.executable, "-m", "tests.vm", *arguments]


def run(*arguments):
    return subprocess.run(guest(*arguments), capture_output=True, text=True, check=False)


def test_the_newest_kernel_of_the_plain_flavour_is_meant():
    names = [
        "linux-image-6.1.0-56-amd64",
        "linux-image-6.12-amd64",
        "linux-image-6.12.99+deb12-amd64",
        "linux-image-6.12.117+deb12-amd64",
        "linux-image-6.12.117+deb12-amd64-unsigned",
        "linux-image-6.12.118+deb12-cloud-amd64",
        "linux-image-6.12.118+deb12-rt-amd64",
        "linux-image-6.1.0-9-amd64",
    ]
    assert newest("6.12", names) == "6.12.117+deb12-amd64"
    assert newest("6.1", names) == "6.1.0-56-amd64"
    assert newest("6.13", names) is None


@pytest.mark.guest
def test_a_series_that_apt_does_not_offer_is_an_error_with_a_mend():
    ended = run("--kernel=9.99", "--", "true")
    assert ended.returncode == 1
    assert "apt offers no linux-image-9.99.*-amd64: add" in ended.stderr


@pytest.mark.guest
def test_a_command_gives_back_its_words_and_its_status_and_the_tree_stays_as_it_was():
    script = "rm README.md && touch tests/new && ls tests; exit 37"
    ended = run("--", "bash", "-c", script)
    assert ended.returncode == 37, ended.stderr
    assert "new" in ended.stdout.splitlines()
    assert (PROJECT / "README.md").exists()
    assert not (PROJECT / "tests/new").exists()


@pytest.mark.guest
def test_what_is_to_be_taken_is_brought_back_whatever_the_status():
    taken = PROJECT / "build" / "taken"
    try:
        ended = run("--take=build/taken", "--", "sh", "-c", "echo news >build/taken; exit 5")
        assert ended.returncode == 5, ended.stderr
        assert taken.read_text() == "news\n"
    finally:
        taken.unlink(missing_ok=True)


@pytest.mark.guest
def test_a_guest_finds_its_programs_compiled():
    ask = (
        "from pathlib import Path; from monitor.capture.programs import KernelSettings;"
        f"kept = Path({KEPT!r}); root = Path('/sys/fs/cgroup');"
        "settings = KernelSettings(source=Path('bpf'), header_cache=kept, runtime_dir=kept,"
        " cgroup_root=root, monitor_pid=1);"
        "print(*kept.glob(f'programs-{settings.digest()}-lsm.json'))"
    )
    ended = run("--", ".venv/bin/python", "-c", ask)
    assert f"{KEPT}/programs-" in ended.stdout, ended.stderr


@pytest.mark.guest
def test_nothing_of_a_guest_outlives_a_run_that_was_killed(tmp_path):
    scratch = os.environ | {"TMPDIR": str(tmp_path)}  # a killed run cannot tidy up
    asker = subprocess.Popen(guest("--", "sleep", "600"), stdout=subprocess.PIPE, env=scratch)
    for line in asker.stdout:
        if line.startswith(b"guest: "):
            break
    family = psutil.Process(asker.pid).children(recursive=True)
    assert any("qemu" in process.name() for process in family)
    asker.send_signal(signal.SIGKILL)
    asker.communicate()
    assert not psutil.wait_procs(family, timeout=10)[1]


@pytest.mark.guest
def test_a_guest_that_takes_too_long_is_ended():
    ended = run("--timeout-s=1", "--", "sleep", "600")
    assert (ended.returncode, ended.stderr) == (1, "estop: the guest did not end within 1 s\n")


def panicking(*, boots: int):
    """A guest whose first boots find no init, which a kernel answers with a panic; and their count."""
    commands = []

    class Panicking(Guest):
        def _virtme(self, share):
            no_init = ["--kopt=rdinit=/none", "--kopt=root=none"] if len(commands) < boots else []
            commands.append([*super()._virtme(share), *no_init])
            return commands[-1]

    return Panicking(kernel=kernel("6.12"), timeout_s=120), commands


@pytest.mark.guest
def test_a_kernel_that_panics_before_the_command_is_booted_again(capsys):
    here, boots = panicking(boots=1)
    assert here.run(["sh", "-c", "exit 37"]) == 37
    assert len(boots) == 2
    assert "panicked by its emulation" in capsys.readouterr().out


@pytest.mark.guest
def test_a_kernel_that_panics_at_each_boot_is_an_error_that_shows_the_console():
    here, boots = panicking(boots=99)
    with pytest.raises(GuestError, match=r"(?s)did not come up.*Kernel panic"):
        here.run(["true"])
    assert len(boots) == 3


@pytest.mark.parametrize(
    ("console", "again"), [("Oops: int3: 0000", True), ("BUG: kernel NULL pointer", False)]
)
def test_a_panic_in_the_midst_is_only_forgiven_where_the_emulation_is_to_blame(
    tmp_path, console, again
):
    (tmp_path / "output").write_text("it had begun")
    (tmp_path / "console").write_text(f"{console}\nKernel panic - not syncing")
    assert _panicked_by_emulation(tmp_path) is again
