# SPDX-License-Identifier: Apache-2.0
"""The launcher towards the monitor: nothing runs unwatched, and the command's end becomes ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes the user id: needs root")


def test_the_process_the_monitor_adopts_is_the_one_that_runs_the_command(monitor, launch):
    done = launch("sh", "-c", "echo $$")
    assert int(done.stdout) == monitor.launches[0]["pid"]


def test_the_command_has_not_run_when_the_monitor_is_asked(monitor, launch, tmp_path):
    marker = tmp_path / "ran"
    ran_before_answer = []
    monitor.on_launch = lambda _: (time.sleep(0.3), ran_before_answer.append(marker.exists()))
    assert launch("touch", str(marker)).returncode == 0
    assert ran_before_answer == [False]
    assert marker.exists()


def test_the_monitor_is_told_the_name_and_the_arguments(monitor, launch):
    launch("true", "a b", "\udcff")
    request = monitor.launches[0]
    assert (request["name"], request["mode"], request["home"]) == ("demo", "enforce", "")
    assert request["argv"] == ["true", "a b", "\\xff"]


def test_a_refused_command_never_runs_and_the_reason_is_shown(monitor, launch, tmp_path):
    monitor.refusal = (409, {"detail": "session demo already runs", "mend": "choose another name"})
    done = launch("touch", str(tmp_path / "ran"))
    assert done.returncode == 3
    assert "session demo already runs; choose another name" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_without_a_monitor_the_command_never_runs(monitor, launch, tmp_path):
    monitor.path = str(tmp_path / "nobody.sock")
    done = launch("touch", str(tmp_path / "ran"))
    assert done.returncode == 3
    assert "nobody.sock" in done.stderr
    assert "estop daemon" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_launcher_killed_while_the_monitor_thinks_takes_the_command_with_it(
    monitor, command, tmp_path
):
    waiting: list[int] = []
    monitor.on_launch = lambda request: (waiting.append(request["pid"]), time.sleep(1))
    with subprocess.Popen(command("touch", str(tmp_path / "ran"))) as launcher:
        _until(lambda: waiting)
        launcher.kill()
    _until(lambda: not Path(f"/proc/{waiting[0]}/cwd").exists())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_exit_code_is_the_command_s(launch, code):
    assert launch("sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_command_that_dies_of_a_signal_leaves_a_launcher_dead_of_it(launch, number):
    assert launch("sh", "-c", f"kill -{number.value} $$").returncode == -number


def test_a_missing_command_ends_with_127_as_in_a_shell(launch):
    done = launch("/no/such/agent")
    assert done.returncode == 127
    assert "/no/such/agent: No such file" in done.stderr


def test_a_command_that_is_no_program_ends_with_126_as_in_a_shell(launch, tmp_path):
    (tmp_path / "notes").write_text("no program")
    assert launch(str(tmp_path / "notes")).returncode == 126


def test_sigterm_to_the_launcher_reaches_the_command(monitor, command):
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(command("sh", "-c", script), stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout.readline() == b"ready\n"
        launcher.terminate()
        assert launcher.wait(10) == 7


def ignored(status: str) -> set[int]:
    """Signal numbers of a SigIgn line.

    Without 32 and 33, which glibc keeps for itself: its posix_spawn, which make uses, leaves them
    ignored in the child.
    """
    mask = int(status.split()[1], 16)
    return {n for n in range(1, 65) if mask >> (n - 1) & 1} - {32, 33}


def test_the_command_starts_with_no_signal_ignored(launch):
    done = launch("grep", "SigIgn", "/proc/self/status")
    assert ignored(done.stdout) == set()


def test_a_signal_that_the_caller_ignores_stays_ignored(launch):
    done = launch(
        "grep",
        "SigIgn",
        "/proc/self/status",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert ignored(done.stdout) == {signal.SIGINT}


def test_the_command_inherits_nothing_of_the_launcher_but_what_the_caller_gave(launch):
    read, write = os.pipe()
    listing = [sys.executable, "-c", "import os; print(*sorted(os.listdir('/proc/self/fd')))"]
    try:
        done = launch(*listing, pass_fds=[write], stdin=subprocess.DEVNULL)
    finally:
        os.close(read)
        os.close(write)
    seen = {int(fd) for fd in done.stdout.split()}
    assert len(seen) == 5  # 0, 1, 2, the one given, the one that lists
    assert write in seen


def test_a_freeze_is_told_once_with_the_rule_and_the_way_on(monitor, command):
    with subprocess.Popen(
        command("sleep", "2.6"), stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    ) as launcher:
        _until(lambda: monitor.launches)
        monitor.state = "frozen"
        _, stderr = launcher.communicate(timeout=20)
    assert monitor.polls >= 3
    told = [line for line in stderr.splitlines() if "frozen" in line]
    assert told == [
        "estop: session demo was frozen: Hosts file edited. `estop resume 01` or `estop kill 01`"
    ]


def test_a_kill_is_told_even_if_it_came_between_two_looks(monitor, launch):
    monitor.state = "killed"
    done = launch("sh", "-c", "kill -9 $$")
    assert "estop: session demo was killed on request" in done.stderr


def test_a_monitor_that_goes_away_is_told_once(monitor, command):
    with subprocess.Popen(
        command("sleep", "2.6"), stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    ) as launcher:
        _until(lambda: monitor.launches)
        time.sleep(0.2)
        Path(monitor.path).unlink()
        _, stderr = launcher.communicate(timeout=20)
    assert stderr.count("the monitor of session demo is gone") == 1


@needs_root
def test_behind_sudo_the_command_belongs_to_the_caller_of_sudo(launch):
    environ = {**os.environ, "SUDO_USER": "nobody", "SUDO_UID": "65534", "KEPT": "yes"}
    done = launch("sh", "-c", "id -u; id -G; echo $USER $HOME $KEPT", env=environ)
    assert done.stdout.split() == ["65534", "65534", "nobody", "/nonexistent", "yes"]


@needs_root
def test_a_named_user_gets_the_command_without_a_way_back_to_root(launch):
    done = launch("grep", "-E", "^(Uid|Gid|CapEff|CapPrm)", "/proc/self/status", user="nobody")
    fields = dict(line.split(":\t") for line in done.stdout.splitlines())
    assert fields["Uid"].split() == fields["Gid"].split() == ["65534"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0


@needs_root
def test_root_without_sudo_is_warned_that_the_agent_is_root(launch):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SUDO_")}
    done = launch("id", "-u", env=environ)
    assert done.stdout == "0\n"
    assert done.stderr.startswith("estop: the agent runs as root")


def test_an_unknown_user_is_an_error_that_names_it(launch):
    done = launch("true", user="nobody-of-that-name")
    assert done.returncode == 3
    assert "nobody-of-that-name" in done.stderr


def _until(condition, timeout_s=10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
