# SPDX-License-Identifier: Apache-2.0
"""`estop run`: starts a command as a watched session and stands in for it towards the terminal.

It must not run the command if the monitor did not adopt it, nor decide anything about a session.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from agent import birth, hardening, identity
from agent.birth import BirthError, Newborn, Plan
from agent.client import MonitorError, ask
from agent.hardening import Guard
from agent.identity import IdentityError
from agent.notice import Notice
from agent.text import tell

NOT_STARTED = 3
"""Exit code where the monitor refused or is away: the command did not run."""

_LAUNCH_S = 120.0  # a new session is looked around in before its agent begins
_TERMINAL_STOPS = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


def run(
    socket: str,
    *,
    name: str,
    argv: Sequence[str],
    user: str | None,
    mode: str,
    home: str | None,
    allow_new_privileges: bool = False,
    announce: Callable[[dict[str, Any]], None] | None = None,
) -> int:
    """Run `argv` as a session of the monitor at `socket`; its exit code becomes ours.

    `announce` is given the session before the command runs. If the command dies of a signal this
    process dies of the same one and does not return.
    """
    try:
        who = identity.choose(user, os.environ, os.geteuid())
        if who is None and os.geteuid() == 0 and user is None:
            tell("the agent runs as root; `--user NAME` gives it to somebody else")
        guards = _guards(allow_new_privileges=allow_new_privileges)
        newborn = birth.conceive(Plan(argv, os.environ, who, guards))
    except IdentityError as error:
        return _refuse(str(error))
    except BirthError as error:
        tell(str(error))
        return error.code
    try:
        request = _request(newborn.pid, guards, name=name, argv=argv, mode=mode, home=home)
        session = ask(socket, "POST", "/api/v1/sessions", request, timeout_s=_LAUNCH_S)
    except MonitorError as error:
        newborn.abandon()
        return _refuse(f"{error}", error.mend)
    except BaseException:
        newborn.abandon()
        raise
    if announce is not None:
        announce(session)
    return _accompany(newborn, Notice(socket, session))


def _guards(*, allow_new_privileges: bool) -> tuple[Guard, ...]:
    """What the agent comes under; said aloud where that is nothing."""
    guards = hardening.available(allow_new_privileges=allow_new_privileges)
    if not guards:
        tell("new privileges allowed and not root: this agent has no seccomp and no Landlock")
    return guards


def _request(
    pid: int,
    guards: Sequence[Guard],
    *,
    name: str,
    argv: Sequence[str],
    mode: str,
    home: str | None,
) -> dict[str, Any]:
    """What the monitor is told of the waiting child."""
    return {
        "pid": pid,
        "name": name,
        "argv": [_text(a) for a in argv],
        "mode": mode,
        "home": _text(home or ""),
        "hardening": list(guards),
    }


def _accompany(newborn: Newborn, notice: Notice) -> int:
    """Release the child, pass signals on, wait for its end and end like it."""
    with _signals_for(newborn.pidfd):
        notice.start()  # a session that was stopped for what it inherited is not released by this
        try:
            newborn.release()
        except BirthError as error:
            os.waitpid(newborn.pid, 0)
            tell(str(error))
            return error.code
        end = _wait(newborn.pid)
        notice.finish()
    os.close(newborn.pidfd)
    if end.si_code == os.CLD_EXITED:
        return end.si_status
    return _die_of(end.si_status)


@contextmanager
def _signals_for(pidfd: int) -> Iterator[None]:
    """The terminal's signals reach the child by itself; those sent to us alone are passed on."""

    def forward(number: int, _frame: FrameType | None) -> None:
        signal.pidfd_send_signal(pidfd, number)

    ours: dict[int, signal.Handlers | Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: signal.SIG_IGN,
        signal.SIGQUIT: signal.SIG_IGN,
        signal.SIGTERM: forward,
        signal.SIGHUP: forward,
    }
    before = {number: signal.signal(number, handler) for number, handler in ours.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(pid: int) -> os.waitid_result:
    """The child's end. Where the terminal stops it, we stop too, so that the shell gets its prompt.

    A stop is first looked at, then taken: Ctrl-Z stops us as well, and when we are continued the
    child has been too; taking the stale report and stopping again would hang the job.
    SIGSTOP is not followed: that is how the kernel holds an agent for a verdict.
    """
    while True:
        seen = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        if seen is None:
            continue
        if seen.si_code in {os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED}:
            os.waitid(os.P_PID, pid, os.WEXITED)
            return seen
        stop = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
        if stop is not None and stop.si_status in _TERMINAL_STOPS:
            _stop_with(pid)


def _stop_with(pid: int) -> None:
    """Stop until the shell continues us, then continue a child that the shell cannot reach."""
    signal.raise_signal(signal.SIGTSTP)
    if os.getpgid(pid) != os.getpgrp():
        os.kill(pid, signal.SIGCONT)


def _die_of(number: int) -> int:
    """End by signal `number`, without a core file; 128 + n if it was not deadly after all."""
    sys.stdout.flush()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def _refuse(message: str, mend: str = "") -> int:
    tell(f"{message}; {mend}" if mend else message)
    tell("the agent was not started: it never runs unwatched")
    return NOT_STARTED


def _text(raw: str) -> str:
    """JSON cannot hold the lone surrogates that Python makes of undecodable bytes."""
    return os.fsencode(raw).decode("utf-8", "backslashreplace")
