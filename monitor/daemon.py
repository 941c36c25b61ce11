# SPDX-License-Identifier: Apache-2.0
"""Composition root: builds the stages, joins them, runs them, takes them down again."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import structlog

from monitor import requirements
from monitor.api.app import create_app, release
from monitor.api.server import Server
from monitor.capture.gate import Gate
from monitor.capture.kernel import KernelSettings, load
from monitor.casebook import Casebook
from monitor.config import FailMode, Settings, bundled
from monitor.detection.enforcement import Facility, Host, problems
from monitor.detection.engine import Engine
from monitor.detection.host import home_directories
from monitor.detection.lower import lower
from monitor.detection.ruleset import RuleSet
from monitor.directories import PRIVATE, PUBLIC, own_directory
from monitor.errors import CaptureError, RequirementError, RuleError
from monitor.housekeeper import Housekeeper, Limits
from monitor.memories import Memories
from monitor.metrics import Metrics
from monitor.notify.notifier import Notifier
from monitor.notify.targets import targets
from monitor.pipeline import Pipeline
from monitor.record.keeper import Keeper
from monitor.record.lock import StateLock
from monitor.record.store import Store
from monitor.recording.taps import Taps
from monitor.resident import be_killed_last, stay_in_memory
from monitor.responder import Responder
from monitor.response.grants import Grants
from monitor.response.holds import Holds
from monitor.response.killswitch import KillSwitch
from monitor.response.marks import Marks
from monitor.response.policy import Disarmer
from monitor.response.protection import OwnLimits, own_watches
from monitor.response.verdicts import Verdicts
from monitor.rounds import Rounds
from monitor.rulebook import Rulebook, read_rules
from monitor.sessions import cgroups
from monitor.sessions.facts import FactMaker
from monitor.sessions.live import LiveSession
from monitor.sessions.places import HostMounts, Roots
from monitor.sessions.registry import Registry
from monitor.sessions.watched import Table, WatchedPaths
from monitor.subjects import Mode
from monitor.supervisor import Supervisor
from monitor.tier import Tier

_log = structlog.get_logger()

_SWITCH_INTERVAL_S = 0.0002
"""How long a thread may keep the interpreter while the pipeline's thread waits for it. Python's
default of 5 ms would be fifty times the stop itself."""
_PR_SET_TIMERSLACK = 29  # linux/prctl.h
_NICE = -20
"""A busy machine is no reason to stop late. Of all threads: whoever has the interpreter's lock and waits
for a processor keeps the pipeline waiting. Not a real-time class: a flood of events would then starve
what it is there to protect."""


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
        header_cache=settings.compiled_dir,
        runtime_dir=settings.runtime_dir,
        cgroup_root=cgroup_root,
        monitor_pid=os.getpid(),
        events_ring_mib=settings.events_ring_mib,
        deadman_ms=settings.deadman_ms if settings.fail_mode is FailMode.CLOSED else 0,
        opens_per_s=settings.opens_per_s,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        fail_mode=settings.fail_mode,
        hold_timeout_s=settings.hold_timeout_ms / 1000,
        losses=settings.blind_losses,
    )


def _stoppable(sessions: Iterable[LiveSession]) -> tuple[tuple[str, str], ...]:
    """Root and home of every session that a rule may stop."""
    return tuple(
        (f"/proc/{live.root_pid}/root", live.user_home)
        for live in sessions
        if live.mode is Mode.ENFORCE and live.state.alive
    )


class Daemon:
    """Everything of one running monitor; `close` takes it down in the opposite order."""

    def __init__(self, settings: Settings) -> None:
        self._stack = ExitStack()
        self._limits = OwnLimits()
        try:
            self._build(settings)
        except BaseException:
            self._stack.close()
            raise

    def _build(self, settings: Settings) -> None:
        ruleset = read_rules(settings)
        own_directory(settings.runtime_dir, PUBLIC)
        self._stack.enter_context(StateLock(settings.state_dir))
        own_directory(settings.compiled_dir, PRIVATE)
        root = cgroups.find_root()
        self.metrics = Metrics()
        self.store = Store(settings.database_path, metrics=self.metrics)
        self._stack.callback(self.store.close)
        self._memories = Memories(self.store)
        listeners = targets(
            settings.notify,
            settings.webhooks,
            settings.webhook_secret_file,
            settings.notice_templates,
            settings.config,
        )
        with ThreadPoolExecutor(1) as beside:  # the kernel's verifier takes as long as we do
            loading = beside.submit(self._load_kernel, _kernel_settings(settings, root))
            lowered, engine = lower(ruleset), Engine(ruleset)
        loading.result()
        gate = self._gate(settings)
        found = {Facility.HOLD, Facility.NETWORK} | ({Facility.OPENS} if gate.pid else set())
        host = Host(self.kernel.tier, frozenset(found))
        if unenforceable := problems(ruleset, lowered, host):
            raise RuleError(unenforceable)
        own = own_watches(settings.own_directories, settings.own_secrets)
        self._verdicts = Verdicts(self.kernel, own)
        self._verdicts.replace(lowered)
        registry = self._sessions(settings, root, ruleset, gate)
        self._marks.replace(lowered)
        holds = Holds(self.kernel)
        killswitch = self._killswitch(settings, root, gate, holds)
        grants = Grants(self.kernel.grant)
        casebook = Casebook(self.store)
        self.metrics.incidents_open.set_function(lambda: len(casebook))
        self.metrics.grants_in_force.set_function(lambda: len(grants.in_force()))
        responder = self._responder(settings, killswitch, holds, grants, casebook)
        rulebook = Rulebook(
            ruleset,
            lowered,
            host,
            load=lambda: read_rules(settings),
            engine=engine,
            followers=(self._verdicts, self._marks),
            watch=lambda rules: self._watched.replace(rules.watched_paths(home_directories())),
            done=lambda changed: self._rules_changed(responder.disarmer, changed),
        )
        taps = Taps()
        self.supervisor = Supervisor(
            self.kernel,
            registry,
            engine,
            responder,
            killswitch,
            self.store,
            gate,
            self._marks,
            host,
            rulebook,
            taps,
            grants,
            casebook,
            self._memories,
        )
        housekeeper = Housekeeper(
            self.kernel, registry, engine, responder, holds, self.metrics, _limits(settings), gate
        )
        self.rounds = Rounds(
            registry=registry,
            rulebook=rulebook,
            mounts=self._mounts,
            roots=self._roots,
            watched=self._watched,
            verdicts=self._verdicts,
            supervisor=self.supervisor,
            grants=grants,
            housekeeper=housekeeper,
            memories=self._memories,
            marks=self._marks,
            gate=gate,
            limits=self._limits,
        )
        self._stack.callback(self.supervisor.leave)
        self.supervisor.restore()
        keeper = Keeper(
            self.store,
            keep_days=settings.keep_days,
            living=lambda: [live.id for live in registry.live()],
        )
        self._stack.callback(keeper.close)
        told = self.store.told() if self.kernel.taken_over else frozenset()
        self.pipeline = Pipeline(
            self.kernel,
            registry,
            engine,
            responder,
            self.store,
            self.metrics,
            gate=gate,
            told=told,
            taps=taps,
        )
        notifier = Notifier(self.store, listeners, self.metrics, console_url=settings.console_url)
        self._stack.callback(notifier.close)
        self.supervisor.undelivered = notifier.problems
        self._serve(settings)

    def _load_kernel(self, settings: KernelSettings) -> None:
        self.kernel = load(settings)
        self._stack.callback(self._leave_kernel)

    def _killswitch(self, settings: Settings, root: Path, gate: Gate, holds: Holds) -> KillSwitch:
        killswitch = KillSwitch(
            lambda slot, on: self.kernel.quarantine(slot, on=on),
            holds,
            cgroup_root=root,
            refuse=lambda slot, on: gate.refuse(slot, on=on),
            displaced=self.kernel.displaced,
            still_since=self.kernel.still_since,
            deadline_ms=settings.freeze_deadline_ms,
        )
        self._stack.callback(killswitch.close)
        return killswitch

    def _responder(
        self,
        settings: Settings,
        killswitch: KillSwitch,
        holds: Holds,
        grants: Grants,
        casebook: Casebook,
    ) -> Responder:
        window_ns = int(settings.disarm_window_s * 1e9)
        responder = Responder(
            killswitch,
            Disarmer(limit=settings.disarm_stops, window_ns=window_ns),
            self.store,
            self.metrics,
            self.kernel.egress_bytes,
            holds,
            grants,
            casebook,
        )
        self._stack.callback(responder.close)
        return responder

    def _gate(self, settings: Settings) -> Gate:
        """Where the kernel cannot refuse by itself, opens are asked about before they happen."""
        gate = Gate(
            self.kernel,
            fail_open=settings.fail_mode is FailMode.OPEN,
            hold_timeout_ms=settings.hold_timeout_ms,
            wake=self.kernel.wake_on,
            denials=settings.runtime_dir / "denials",
        )
        self._stack.callback(gate.close)
        gate.take_over(slots=self.kernel.sessions() if self.kernel.taken_over else ())
        if self.kernel.tier is Tier.TRACEPOINT and settings.refuse_opens:
            try:
                gate.start()
            except CaptureError as error:  # what it would refuse is still held after it happened
                _log.warning("gate.off", why=str(error), mend=error.mend)
        return gate

    def _sessions(self, settings: Settings, root: Path, ruleset: RuleSet, gate: Gate) -> Registry:
        homes = home_directories()
        self._mounts, self._roots = HostMounts(), Roots(released=self._released)
        self._stack.callback(self._mounts.close)
        self._marks = Marks(gate, lambda: _stoppable(registry.live()), homes=homes)
        self._watched = WatchedPaths(
            ruleset.watched_paths(homes), self._paths_changed, self._marks.renewed
        )
        self._registry = registry = Registry(
            self.kernel,
            FactMaker(self._watched, self._mounts, self._roots, homes=homes),
            cgroup_root=root,
            cgroup_name=settings.cgroup_name,
            history_events=settings.history_events,
            labelled=self._memories.keep_labels,
        )
        self._watched.read("/")
        return registry

    def _rules_changed(self, disarmer: Disarmer, changed: Sequence[str]) -> None:
        """Who mended a rule that fired too often wants to try it; and a repeat is news to it."""
        for rule in changed:
            disarmer.arm(rule)
        self.kernel.forget_touches()

    def _released(self, root: str) -> None:
        self._watched.forget(root)

    def _paths_changed(self, found: Table) -> None:
        self._verdicts.follow(found)
        self._marks.follow(self._watched.tables())

    def _leave_kernel(self) -> None:
        """Sessions that live on stay followed and cut, for the next monitor to take over."""
        left = self.kernel.sessions()
        if left:
            _log.warning("programs.left", sessions=len(left), mend="`estop unload` removes them")
        self.kernel.close(keep=bool(left))

    def _serve(self, settings: Settings) -> None:
        app = create_app(
            self.supervisor,
            self.store,
            metrics=self.metrics,
            requests_per_s=settings.api_requests_per_s,
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


def _log_no_values() -> None:
    """A traceback by rich shows every variable: what an agent opened and said would be in the log."""
    *others, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*others, plain])


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; errors on the way up are EstopErrors."""
    _check_host()
    faulthandler.enable()  # a crash in a library of C would leave no word in the log
    _log_no_values()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    os.setpriority(os.PRIO_PROCESS, 0, _NICE)  # before there are threads, which inherit it
    stop, reload = threading.Event(), threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        (reload if number == signal.SIGHUP else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask)
    daemon = Daemon(settings)
    # What was loaded stays: without this a full collection walks rules and libraries for 50 ms, now
    # and then, between an act and its stop.
    gc.collect()
    gc.freeze()
    be_killed_last()
    if why := stay_in_memory():
        _log.warning("memory.not_locked", why=why, mend="give it CAP_IPC_LOCK")
    # Naps of the freeze's confirmation: the default slack of 50 us would double them.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    helpers = [
        ThreadPoolExecutor(1, "housekeeper").submit(daemon.rounds.walk, stop, reload),
        ThreadPoolExecutor(1, "paths").submit(daemon.rounds.follow_paths, stop),
    ]
    # A monitor that lost a thread ends where everybody sees it, and does not go on half blind.
    for helper in helpers:
        helper.add_done_callback(lambda _: stop.set())
    try:
        _log.info(
            "monitor.ready",
            socket=str(settings.socket_path),
            console=daemon.server.url or "off: `listen` is empty",
            rules=daemon.supervisor.health().rules,
        )
        daemon.pipeline.run(stop)
    finally:
        stop.set()
        wait(helpers)
        daemon.close()
        _log.info("monitor.stopped")
    for helper in helpers:
        helper.result()  # raises what ended it, if something did
