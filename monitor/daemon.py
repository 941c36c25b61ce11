# SPDX-License-Identifier: Apache-2.0
"""Composition root: builds the stages, joins them, runs them, takes them down again."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import structlog

from monitor import requirements
from monitor.api.app import create_app, release
from monitor.api.server import Server
from monitor.api.token import load_token
from monitor.capture.kernel import KernelSettings, load
from monitor.config import Settings, bundled
from monitor.detection import loader
from monitor.detection.engine import Engine
from monitor.detection.host import home_directories, host_variables
from monitor.detection.ruleset import RuleSet
from monitor.directories import PUBLIC, own_directory
from monitor.errors import RequirementError
from monitor.metrics import Metrics
from monitor.pipeline import Pipeline
from monitor.record.lock import StateLock
from monitor.record.store import Store
from monitor.responder import Responder
from monitor.response.killswitch import KillSwitch
from monitor.response.policy import Disarmer
from monitor.sessions import cgroups
from monitor.sessions.facts import FactMaker
from monitor.sessions.places import HostMounts, Roots
from monitor.sessions.registry import Registry
from monitor.sessions.watched import WatchedPaths
from monitor.supervisor import Supervisor

_log = structlog.get_logger()

_SWITCH_INTERVAL_S = 0.0002
"""How long a thread may keep the interpreter while the pipeline's thread waits for it. Python's
default of 5 ms would be fifty times the stop itself."""
_HOUSEKEEPING_S = 0.5
_PIPELINE_NICE = -20
"""A busy machine is no reason to stop late. Not a real-time class: a flood of events would then
starve what it is there to protect."""


def load_rules(settings: Settings) -> RuleSet:
    """All signatures, or RuleError with every reason why not."""
    return loader.load(settings.rules, variables=host_variables(settings.payment_addresses))


def _check_host() -> None:
    missing = [r for r in requirements.check_all() if not r.ok]
    if missing:
        raise RequirementError(
            "; ".join(f"{r.name}: {r.detail}" for r in missing),
            mend="; ".join(r.mend for r in missing if r.mend) or "run `estop doctor`",
        )


def _kernel_settings(settings: Settings, cgroup_root: Path) -> KernelSettings:
    return KernelSettings(
        source=bundled("bpf"),
        header_cache=settings.state_dir / "headers",
        cgroup_root=cgroup_root,
        monitor_pid=os.getpid(),
        events_ring_mib=settings.events_ring_mib,
    )


class Daemon:
    """Everything of one running monitor; `close` takes it down in the opposite order."""

    def __init__(self, settings: Settings) -> None:
        self._stack = ExitStack()
        try:
            self._build(settings)
        except BaseException:
            self._stack.close()
            raise

    def _build(self, settings: Settings) -> None:
        ruleset = load_rules(settings)
        own_directory(settings.runtime_dir, PUBLIC)
        self._stack.enter_context(StateLock(settings.state_dir))
        token = load_token(settings.token_path)
        root = cgroups.find_root()
        self.metrics = Metrics()
        self.store = Store(settings.database_path, metrics=self.metrics)
        self._stack.callback(self.store.close)
        self.kernel = self._stack.enter_context(load(_kernel_settings(settings, root)))
        engine = Engine(ruleset)
        registry = self._sessions(settings, root, ruleset)
        killswitch = KillSwitch(
            lambda slot, on: self.kernel.quarantine(slot, on=on),
            cgroup_root=root,
            deadline_ms=settings.freeze_deadline_ms,
        )
        window_ns = int(settings.disarm_window_s * 1e9)
        responder = Responder(
            killswitch,
            Disarmer(limit=settings.disarm_stops, window_ns=window_ns),
            self.store,
            self.metrics,
            self.kernel.egress_bytes,
        )
        self._stack.callback(responder.close)
        self.supervisor = Supervisor(
            self.kernel, registry, engine, responder, killswitch, self.store, self.metrics
        )
        self._stack.callback(self.supervisor.leave)
        self.supervisor.restore()
        self.pipeline = Pipeline(self.kernel, registry, engine, responder, self.metrics)
        self._serve(settings, token)

    def _sessions(self, settings: Settings, root: Path, ruleset: RuleSet) -> Registry:
        homes = home_directories()
        self._mounts, self._roots = HostMounts(), Roots()
        self._stack.callback(self._mounts.close)
        self._watched = WatchedPaths(ruleset.watched_paths(homes))
        return Registry(
            self.kernel,
            FactMaker(self._watched, self._mounts, self._roots, homes=homes),
            cgroup_root=root,
            cgroup_name=settings.cgroup_name,
            history_events=settings.history_events,
        )

    def keep_house(self, stop: threading.Event) -> None:
        """Everything that has to be looked at now and then; runs on a thread of its own."""
        while not stop.wait(_HOUSEKEEPING_S):
            self._mounts.refresh()
            self._roots.release()
            self._watched.refresh()  # after it: a table of a root that is gone must not be asked
            self.supervisor.keep_house()

    def _serve(self, settings: Settings, token: str) -> None:
        app = create_app(
            self.supervisor,
            self.store,
            metrics=self.metrics,
            token=token,
            is_supervised=self.supervisor.is_supervised,
        )
        self._stack.callback(release, app)
        self.server = Server(app, socket_path=settings.socket_path, address=settings.address)
        self.server.start()
        self._stack.callback(self.server.stop)
        if self.server.address is not None:
            self.kernel.refuse_port(self.server.address[1])
        self.supervisor.api_alive = lambda: self.server.alive

    def close(self) -> None:
        """Stop serving, leave the sessions, detach, flush, let go of the lock."""
        self._stack.close()


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; errors on the way up are EstopErrors."""
    _check_host()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    daemon = Daemon(settings)
    # What was loaded stays: without this a full collection walks rules and libraries for 50 ms, now
    # and then, between an act and its stop.
    gc.collect()
    gc.freeze()
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _PIPELINE_NICE)
    housekeeper = ThreadPoolExecutor(1, "housekeeper").submit(daemon.keep_house, stop)
    # A monitor that lost a thread ends where everybody sees it, and does not go on half blind.
    housekeeper.add_done_callback(lambda _: stop.set())
    try:
        _log.info(
            "monitor.ready",
            socket=str(settings.socket_path),
            tcp=settings.listen,
            rules=len(daemon.supervisor.rules()),
        )
        daemon.pipeline.run(stop)
    finally:
        stop.set()
        wait([housekeeper])
        daemon.close()
        _log.info("monitor.stopped")
    housekeeper.result()  # raises what ended it, if something did
