# SPDX-License-Identifier: Apache-2.0
"""Composition root: builds the stages in the order of the arrows, joins them, takes them down again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import structlog

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
from monitor.errors import CaptureError, RuleError
from monitor.housekeeper import Housekeeper, Limits
from monitor.lifecycle import Lifecycle
from monitor.looking import Looker
from monitor.lowered import Lowered
from monitor.memories import Memories
from monitor.metrics import Metrics
from monitor.notify.notifier import Notifier
from monitor.notify.targets import targets
from monitor.pipeline import Pipeline
from monitor.procfs import acting
from monitor.record.keeper import Keeper
from monitor.record.lock import StateLock
from monitor.record.store import Store
from monitor.recording.taps import Taps
from monitor.responder import Responder
from monitor.response.devices import unknown_to_the_kernel
from monitor.response.grants import Grants
from monitor.response.holds import Holds
from monitor.response.killswitch import KillSwitch
from monitor.response.marks import Marks
from monitor.response.policy import Disarmer
from monitor.response.protection import OwnLimits, own_watches
from monitor.response.verdicts import Verdicts
from monitor.rounds import Rounds
from monitor.rulebook import Rulebook, read_rules
from monitor.served import Served
from monitor.sessions import cgroups
from monitor.sessions.facts import FactMaker
from monitor.sessions.live import LiveSession
from monitor.sessions.observer import Observer
from monitor.sessions.places import HostMounts, Roots
from monitor.sessions.registry import Registry
from monitor.sessions.watched import OfSessions, Table, WatchedPaths
from monitor.subjects import Mode
from monitor.supervisor import Supervisor
from monitor.tier import Tier

_log = structlog.get_logger()


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
        (f"/proc/{acting(live.root_pid)}/root", live.user_home)
        for live in sessions
        if live.mode is Mode.ENFORCE and live.state.alive
    )


class Daemon:
    """Everything of one running monitor; `close` takes it down in the opposite order.

    Each step finds in `self` what the ones before it made.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._own_limits = OwnLimits()
        self.metrics = Metrics()
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise

    def _build(self) -> None:
        ruleset = read_rules(self._settings)  # before anything is touched: they may be wrong
        self._open_record()
        lowered = self._load(ruleset)
        self._open_gate()
        self._check(ruleset, lowered)
        self._follow_sessions(ruleset, lowered)
        self._arm()
        self._keep_rules(ruleset, lowered)
        self._serve_people()
        self._join()
        self._lifecycle.restore()
        self._tell_of_incidents()
        self._serve()

    def _open_record(self) -> None:
        settings = self._settings
        own_directory(settings.runtime_dir, PUBLIC)
        self._stack.enter_context(StateLock(settings.state_dir))
        own_directory(settings.compiled_dir, PRIVATE)
        self.store = Store(settings.database_path, metrics=self.metrics)
        self._stack.callback(self.store.close)
        self._memories = Memories(self.store)
        # Used last, and read here: a mistake in them is found before the kernel is touched.
        self._listeners = targets(
            settings.notify,
            settings.webhooks,
            settings.webhook_secret_file,
            settings.notice_templates,
            settings.config,
        )

    def _load(self, ruleset: RuleSet) -> Lowered:
        """Programs and rules at once: the kernel's verifier takes as long as we do."""
        self._cgroup_root = cgroups.find_root()
        with ThreadPoolExecutor(1) as beside:
            loading = beside.submit(self._load_kernel)
            lowered, self._engine = lower(ruleset), Engine(ruleset)
        loading.result()
        return lowered

    def _load_kernel(self) -> None:
        self.kernel = load(_kernel_settings(self._settings, self._cgroup_root))
        self._stack.callback(self._leave_kernel)

    def _leave_kernel(self) -> None:
        """Sessions that live on stay followed and cut, for the next monitor to take over."""
        left = self.kernel.sessions()
        if left:
            _log.warning("programs.left", sessions=len(left), mend="`estop unload` removes them")
        self.kernel.close(keep=bool(left))

    def _open_gate(self) -> None:
        """Where the kernel cannot refuse by itself, opens are asked about before they happen."""
        settings = self._settings
        self._gate = gate = Gate(
            self.kernel,
            fail_open=settings.fail_mode is FailMode.OPEN,
            hold_timeout_ms=settings.hold_timeout_ms,
            wake=self.kernel.records.wake_on,
            denials=settings.runtime_dir / "denials",
        )
        self._stack.callback(gate.close)
        gate.take_over(slots=self.kernel.sessions() if self.kernel.taken_over else ())
        if self.kernel.tier is Tier.TRACEPOINT and settings.refuse_opens:
            try:
                gate.start()
            except CaptureError as error:  # what it would refuse is still held after it happened
                _log.warning("gate.off", why=str(error), mend=error.mend)

    def _check(self, ruleset: RuleSet, lowered: Lowered) -> None:
        """Rules that ask for more than this host can do are an error, and no surprise later."""
        found = {Facility.HOLD, Facility.NETWORK} | ({Facility.OPENS} if self._gate.pid else set())
        forgiven = (program for watch in lowered.watches for program in watch.exempt)
        found |= set() if unknown_to_the_kernel(forgiven) else {Facility.PROGRAMS}
        self._host = Host(self.kernel.tier, frozenset(found))
        if unenforceable := problems(ruleset, lowered, self._host):
            raise RuleError(unenforceable)

    def _follow_sessions(self, ruleset: RuleSet, lowered: Lowered) -> None:
        """Who is watched, and where what the rules name lies for each of them."""
        settings, homes = self._settings, home_directories()
        self._served = Served()
        self._stack.callback(self._served.close)
        looker = Looker(self._served)
        self._stack.callback(looker.close)
        look = looker.look
        own = own_watches(settings.own_directories, settings.own_secrets)
        self._verdicts = Verdicts(self.kernel, own, look=look)
        self._verdicts.replace(lowered)
        self._mounts, self._roots = HostMounts(), Roots(released=self._released)
        self._stack.callback(self._mounts.close)
        self._marks = Marks(
            self._gate, lambda: _stoppable(self._registry.live()), homes=homes, look=look
        )
        self._watched = WatchedPaths(
            ruleset.watched_paths(homes), self._paths_changed, self._marks.renewed, look
        )
        facts = FactMaker(self._watched, self._mounts, self._roots, homes=homes)
        self._registry = Registry(
            self.kernel,
            facts,
            cgroup_root=self._cgroup_root,
            cgroup_name=settings.cgroup_name,
            history_events=settings.history_events,
            unfollowed=self._unfollowed,
            look=look,
            adopting=self._served.are_met,
        )
        self._observer = Observer(
            self._registry, self.kernel, facts, labelled=self._memories.keep_labels, look=look
        )
        self._watched.read("/")
        self._marks.replace(lowered)

    def _unfollowed(self, live: LiveSession, waiting: Sequence[int]) -> None:
        self._killswitch.forget(live, waiting)

    def _released(self, root: str) -> None:
        self._watched.forget(root)

    def _paths_changed(self, found: Table, of_sessions: OfSessions) -> None:
        self._verdicts.follow(found, of_sessions)
        self._marks.follow(self._watched.tables())

    def _arm(self) -> None:
        """What stops, and what lets go."""
        settings = self._settings
        self._holds = Holds(self.kernel)
        self._killswitch = KillSwitch(
            lambda slot, on: self.kernel.quarantine(slot, on=on),
            self._holds,
            cgroup_root=self._cgroup_root,
            refuse=lambda slot, on: self._gate.refuse(slot, on=on),
            displaced=self.kernel.displaced,
            still_since=self.kernel.still_since,
            followed=self.kernel.followed,
            made_anew=self.kernel.follow,
            unblock=lambda slot: self._served.end_waits(self.kernel.followed(slot)),
            deadline_ms=settings.freeze_deadline_ms,
        )
        self._stack.callback(self._killswitch.close)
        self._grants = grants = Grants(self.kernel.grant)
        self._casebook = casebook = Casebook(self.store)
        self.metrics.incidents_open.set_function(lambda: len(casebook))
        self.metrics.grants_in_force.set_function(lambda: len(grants.in_force()))
        self._responder = Responder(
            self._killswitch,
            Disarmer(limit=settings.disarm_stops, window_ns=int(settings.disarm_window_s * 1e9)),
            self.store,
            self.metrics,
            self.kernel.egress_bytes,
            self._holds,
            grants,
            casebook,
        )
        self._stack.callback(self._responder.close)

    def _keep_rules(self, ruleset: RuleSet, lowered: Lowered) -> None:
        """The rules in force; all who go by them hear of new ones."""
        self._rulebook = Rulebook(
            ruleset,
            lowered,
            self._host,
            load=lambda: read_rules(self._settings),
            engine=self._engine,
            followers=(self._verdicts, self._marks),
            watch=lambda rules: self._watched.replace(rules.watched_paths(home_directories())),
            done=self._rules_changed,
        )

    def _rules_changed(self, changed: Sequence[str]) -> None:
        """Who mended a rule that fired too often wants to try it; and a repeat is news to it."""
        for rule in changed:
            self._responder.disarmer.arm(rule)
        self.kernel.forget_touches()

    def _serve_people(self) -> None:
        """What people may ask for, and what becomes of sessions when nobody asks."""
        self._taps = Taps()
        self._lifecycle = Lifecycle(
            self.kernel,
            self._registry,
            self._killswitch,
            self.store,
            self._grants,
            self._casebook,
            self._memories,
        )
        self._stack.callback(self._lifecycle.leave)
        self.supervisor = Supervisor(
            self.kernel,
            self._registry,
            self._observer,
            self._engine,
            self._responder,
            self._killswitch,
            self.store,
            self._gate,
            self._marks,
            self._verdicts,
            self._host,
            self._rulebook,
            self._taps,
            self._grants,
            self._casebook,
            self._lifecycle,
        )

    def _join(self) -> None:
        """The pipeline, and what goes round beside it."""
        told = self.store.told() if self.kernel.taken_over else frozenset()
        self.pipeline = Pipeline(
            self.kernel.records,
            self._registry,
            self._observer,
            self._engine,
            self._responder,
            self.store,
            self.metrics,
            gate=self._gate,
            told=told,
            taps=self._taps,
        )
        self.rounds = Rounds(
            registry=self._registry,
            rulebook=self._rulebook,
            mounts=self._mounts,
            roots=self._roots,
            served=self._served,
            watched=self._watched,
            verdicts=self._verdicts,
            lifecycle=self._lifecycle,
            grants=self._grants,
            housekeeper=Housekeeper(
                self.kernel,
                self._registry,
                self._observer,
                self._engine,
                self._responder,
                self._holds,
                self.metrics,
                _limits(self._settings),
                self._gate,
                self._verdicts,
            ),
            memories=self._memories,
            marks=self._marks,
            gate=self._gate,
            limits=self._own_limits,
        )

    def _tell_of_incidents(self) -> None:
        """Those who are told, and how long what they are told of is kept."""
        keeper = Keeper(
            self.store,
            keep_days=self._settings.keep_days,
            living=lambda: [live.id for live in self._registry.live()],
        )
        self._stack.callback(keeper.close)
        notifier = Notifier(
            self.store, self._listeners, self.metrics, console_url=self._settings.console_url
        )
        self._stack.callback(notifier.close)
        self.supervisor.undelivered = notifier.problems

    def _serve(self) -> None:
        settings = self._settings
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
