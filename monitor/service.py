# SPDX-License-Identifier: Apache-2.0
"""The monitor as a process: its signals, its threads, and how urgent they are; `daemon.py` builds it."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from types import FrameType

import structlog

from monitor import requirements
from monitor.config import Settings
from monitor.daemon import Daemon
from monitor.errors import RequirementError
from monitor.resident import be_killed_last, open_as_many_as_may_be, stay_in_memory

_log = structlog.get_logger()

_SWITCH_INTERVAL_S = 0.0002
"""How long a thread may keep the interpreter while the pipeline's thread waits for it. Python's
default of 5 ms would be fifty times the stop itself."""
_PR_SET_TIMERSLACK = 29  # linux/prctl.h
_NICE = -20
"""A busy machine is no reason to stop late. Of all threads: whoever has the interpreter's lock and waits
for a processor keeps the pipeline waiting. Not a real-time class: a flood of events would then starve
what it is there to protect."""


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; errors on the way up are EstopErrors."""
    _check_host()
    faulthandler.enable()  # a crash in a library of C would leave no word in the log
    _log_no_values()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    open_as_many_as_may_be()  # before `OwnLimits` looks at them
    os.setpriority(os.PRIO_PROCESS, 0, _NICE)  # before there are threads, which inherit it
    stop, reload = _signals()
    daemon = Daemon(settings)
    _settle()
    _log.info(
        "monitor.ready",
        socket=str(settings.socket_path),
        console=daemon.server.url or "off: `listen` is empty",
        rules=daemon.supervisor.health().rules,
    )
    _run(daemon, stop, reload)


def _signals() -> tuple[threading.Event, threading.Event]:
    """Set by SIGTERM or SIGINT, and by SIGHUP."""
    stop, reload = threading.Event(), threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        (reload if number == signal.SIGHUP else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask)
    return stop, reload


def _settle() -> None:
    """What was loaded stays where it is, and nothing of it is looked at again."""
    # Without this a full collection walks rules and libraries for 50 ms, now and then, between an act
    # and its stop.
    gc.collect()
    gc.freeze()
    be_killed_last()
    if why := stay_in_memory():
        _log.warning("memory.not_locked", why=why, mend="give it CAP_IPC_LOCK")
    # Naps of the freeze's confirmation: the default slack of 50 us would double them.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)


def _run(daemon: Daemon, stop: threading.Event, reload: threading.Event) -> None:
    helpers = [
        ThreadPoolExecutor(1, "housekeeper").submit(daemon.rounds.walk, stop, reload),
        ThreadPoolExecutor(1, "paths").submit(daemon.rounds.follow_paths, stop),
    ]
    # A monitor that lost a thread ends where everybody sees it, and does not go on half blind.
    for helper in helpers:
        helper.add_done_callback(lambda _: stop.set())
    try:
        daemon.pipeline.run(stop)
    finally:
        stop.set()
        wait(helpers)
        daemon.close()
        _log.info("monitor.stopped")
    for helper in helpers:
        helper.result()  # raises what ended it, if something did


def _check_host() -> None:
    missing = [r for r in requirements.check_all() if not r.ok]
    if missing:
        raise RequirementError(
            "; ".join(f"{r.name}: {r.detail}" for r in missing),
            mend="; ".join(r.mend for r in missing if r.mend) or "run `estop doctor`",
        )


def _log_no_values() -> None:
    """A traceback by rich shows every variable: what an agent opened and said would be in the log."""
    *others, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*others, plain])
