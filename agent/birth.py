# SPDX-License-Identifier: Apache-2.0
"""The agent's process between fork and exec; it must never run the command before `release`.

The child first comes under its guards, becomes the right user and says so, then waits on a pipe.
Only then is it shown to the monitor, which adopts it; only after that is it released. If the
launcher dies meanwhile the pipe ends and so does the child, so there is no moment at which an
unwatched agent runs.

Descriptors that the caller passed on stay open (a make job server needs its own): the monitor
judges the files among them as opened by the session, and its network cut covers the sockets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from agent import hardening
from agent import identity as identities
from agent.hardening import Guard
from agent.identity import Identity

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # a shell's exit codes for a command it could not start
_READY, _GO = b"r", b"g"


class BirthError(Exception):
    """The command could not be started; `code` is the exit code a shell would give."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Plan:
    """What the child is to become."""

    argv: Sequence[str]
    environ: Mapping[str, str]
    who: Identity | None
    """None: it stays who we are."""
    guards: tuple[Guard, ...]


@dataclass(frozen=True, slots=True)
class Newborn:
    """A child that waits to exec. Hold it, show its pid to the monitor, then release it."""

    pid: int
    pidfd: int
    _go: int
    _report: int

    def release(self) -> None:
        """Let it exec; BirthError if it could not."""
        # A child that was killed meanwhile has closed its end: then there is nobody to release.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._go, _GO)
        os.close(self._go)
        _raise_if_failed(self._report)

    def abandon(self) -> None:
        """End it without a single instruction of the command having run."""
        os.close(self._go)
        os.close(self._report)
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)


def conceive(plan: Plan) -> Newborn:
    """Fork a child that is already guarded and the right user, and waits to exec."""
    go_read, go_write = os.pipe()  # close-on-exec both: the command inherits neither
    report_read, report_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)  # or the launcher's death would not end our wait
        os.close(report_read)
        _live(plan, go_read, report_write)
    os.close(go_read)
    os.close(report_write)
    newborn = Newborn(pid, os.pidfd_open(pid), go_write, report_read)
    first = os.read(report_read, 1)
    if first != _READY:
        try:
            _raise_if_failed(os.dup(report_read), first)
        finally:
            newborn.abandon()
        raise BirthError(f"{plan.argv[0]}: its process ended at its birth", NOT_EXECUTABLE)
    return newborn


def _raise_if_failed(report: int, begun: bytes = b"") -> None:
    """Read the child's last words; end of file without a word means the exec succeeded.

    `begun` is what was read of them already.
    """
    with open(report, "rb") as pipe:
        words = begun + pipe.read()
    if words:
        code, _, message = words.decode("utf-8", "surrogateescape").partition(" ")
        raise BirthError(message, int(code))


def _live(plan: Plan, go: int, report: int) -> NoReturn:
    """Be the child, to exec or to the end."""
    argv, environ = plan.argv, plan.environ
    try:
        _restore_signals()
        # Before the change of user: after it, the filters would cost the session its setuid programs.
        hardening.impose(plan.guards)
        if plan.who is not None:
            identities.assume(plan.who)
            environ = identities.environment(plan.who, environ)
        os.write(report, _READY)
        if os.read(go, 1) == _GO:
            os.execvpe(argv[0], list(argv), environ)  # noqa: S606 - no shell is the point
    except OSError as error:
        missing = error.errno in {errno.ENOENT, errno.ENOTDIR}
        code = NOT_FOUND if missing else NOT_EXECUTABLE
        os.write(report, os.fsencode(f"{code} {argv[0]}: {error.strerror}"))
    finally:
        os._exit(NOT_EXECUTABLE)


def _restore_signals() -> None:
    """Undo Python's own dispositions; those that our caller set (nohup) stay."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and exec would keep it
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
