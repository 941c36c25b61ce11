# SPDX-License-Identifier: Apache-2.0
"""The launcher between a shell and its job: Ctrl-C, Ctrl-Z and fg work as if it were not there."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import sys
import time

import pytest


class Shell:
    """An interactive bash on a terminal of its own."""

    def __init__(self) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["PS1"] = "$ "
            os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
        self.output = ""

    def send(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, pattern: str, timeout_s: float = 15.0) -> None:
        """Wait for `pattern` in what has not been matched yet."""
        deadline = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.output)):
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.output!r}"
            self.output += os.read(self.fd, 4096).decode("utf-8", "replace")
        self.output = self.output[found.end() :]

    def expect_prompt_after_stop(self) -> None:
        """As slow as a person: a command on its way to a stop still takes what is typed at once."""
        self.expect(r"(?s)Stopped.*?\n\$ ")
        time.sleep(0.3)

    def close(self) -> None:
        os.close(self.fd)  # hangs the terminal up: the shell and its jobs end
        os.waitpid(self.pid, 0)


@pytest.fixture
def shell():
    opened = Shell()
    opened.expect(r"\$ ")
    yield opened
    opened.close()


def test_ctrl_c_ends_the_command_and_the_shell_sees_its_exit_code(shell, command):
    script = "trap 'exit 9' INT; echo up; while :; do sleep 0.05; done"
    shell.send(shlex.join(command("sh", "-c", script)) + "\n")
    shell.expect(r"\r\nup\r\n")
    shell.send("\x03")
    shell.expect(r"\$ ")
    shell.send("echo code=$?\n")
    shell.expect(r"\ncode=9\r")


def test_a_command_that_handles_ctrl_c_itself_goes_on(shell, command):
    script = "trap 'echo caught' INT; echo up; while :; do sleep 0.05; done"
    shell.send(shlex.join(command("sh", "-c", script)) + "\n")
    shell.expect(r"\r\nup\r\n")
    for _ in range(2):
        shell.send("\x03")
        shell.expect("caught")


def test_ctrl_z_gives_the_prompt_back_and_fg_goes_on_with_one_fg(shell, command):
    shell.send(shlex.join(command("sh", "-c", "echo up; read line; echo got $line")) + "\n")
    shell.expect(r"\r\nup\r\n")
    for _ in range(3):  # a stale stop report would stop the job again after the first fg
        shell.send("\x1a")
        shell.expect_prompt_after_stop()
        shell.send("fg\n")
        shell.expect(r"sh -c")
        time.sleep(0.3)
    shell.send("hello\n")
    shell.expect(r"got hello\r")
    shell.expect(r"\$ ")
    shell.send("jobs; echo none\n")
    shell.expect(r"\r\nnone\r")


@pytest.mark.parametrize("group", ["its shell's", "its own"])
def test_a_command_that_stops_only_itself_gives_the_prompt_back(shell, command, group):
    leave = "os.setpgid(0, 0); " if group == "its own" else ""
    script = f"import os; {leave}os.kill(os.getpid(), {signal.SIGTSTP:d}); os.write(1, b'went on')"
    shell.send(shlex.join(command(sys.executable, "-c", script)) + "\n")
    shell.expect_prompt_after_stop()
    shell.send("fg\n")
    shell.expect(r"\r\n.*went on")


def test_the_command_has_the_terminal_as_its_own(shell, command):
    shell.send(shlex.join(command("sh", "-c", "tty; test -t 0 && test -t 2 && echo all")) + "\n")
    shell.expect(r"/dev/pts/\d+\r\nall\r")
