# SPDX-License-Identifier: Apache-2.0
"""Sessions from one monitor to the next, and their end; what happens between is not looked at here."""

from __future__ import annotations

import os
import time

import structlog

from monitor.alerts import SessionRef
from monitor.capture.kernel import Kernel
from monitor.casebook import Casebook
from monitor.errors import EstopError
from monitor.incidents import Resolution
from monitor.memories import Memories
from monitor.record.sentence import shown
from monitor.record.store import Store
from monitor.response.continuing import go_on
from monitor.response.evidence import collect
from monitor.response.grants import Grants
from monitor.response.killswitch import KillSwitch
from monitor.sessions import cgroups
from monitor.sessions.live import LiveSession
from monitor.sessions.registry import Registry
from monitor.subjects import Session, State

_log = structlog.get_logger()


class Lifecycle:
    """Joins whoever must hear of it."""

    def __init__(
        self,
        kernel: Kernel,
        registry: Registry,
        killswitch: KillSwitch,
        store: Store,
        grants: Grants,
        casebook: Casebook,
        memories: Memories,
    ) -> None:
        self._kernel = kernel
        self._registry = registry
        self._killswitch = killswitch
        self._store = store
        self._grants = grants
        self._casebook = casebook
        self._memories = memories

    def restore(self) -> None:
        """Take back the sessions that an earlier monitor left with living processes."""
        followed = {cgroup: slot for slot, cgroup in self._kernel.sessions().items()}
        found: list[tuple[int, Session]] = []
        for session in self._store.sessions():
            if session.state.alive and os.path.isdir(session.cgroup):  # noqa: PTH112
                cgroup_id = os.stat(session.cgroup).st_ino  # noqa: PTH116
                found.append((followed.pop(cgroup_id, 0), session))
        for slot in followed.values():
            self._forget_unknown(slot)
        # Those that the kernel follows keep their slots; new ones are given out after that.
        for slot, session in sorted(found, key=lambda pair: not pair[0]):
            live = self._registry.restore(session, slot, self._memories.home(session.id))
            self._memories.recall(live)
            self._casebook.remember(live.id)
            self._take_up_stop(live, session, followed=bool(slot))
            self._killswitch.prepare(live)
            _log.info("session.restored", session=live.id, state=live.state.value)
        alive = {live.id: live.slot for live in self._registry.live()}
        self._casebook.keep_only(alive)
        for grant in self._store.grants():
            if not grant.revoked and grant.expires_s > time.time() and grant.session.id in alive:
                self._grants.add(grant, alive[grant.session.id])
        self._registry.sweep()

    def _forget_unknown(self, slot: int) -> None:
        """The kernel follows a session that no record tells of: another state directory, or a full disk."""
        stopped = self._kernel.is_quarantined(slot)
        waiting = self._kernel.forget(slot)
        if not stopped:
            go_on(waiting)
        _log.error("session.unknown", slot=slot, stopped=stopped, waiting=waiting)

    def _take_up_stop(self, live: LiveSession, recorded: Session, *, followed: bool) -> None:
        """The kernel's word counts: the record may be older than what was done last."""
        # A stop that was begun is finished: the cut comes first, and may be all there was time for.
        # And who was told to freeze for a verdict may have a process that is not there yet.
        told = self._killswitch.is_told_to_freeze(live)
        stands = told or self._kernel.is_quarantined(live.slot)
        frozen = recorded.state is State.FROZEN
        # Where the kernel followed it all the time, only a resume gives the network back, and does that
        # last: so a person let it go on. Where it did not, the machine was started anew or the programs
        # were unloaded, which is nobody's leave: what a container starts again by itself would be free.
        if stands or (frozen and not followed and not self._killswitch.is_empty(live)):
            live.state = State.RUNNING
            self._stop_again(live)
        elif frozen:
            live.state = State.RUNNING
            self._casebook.resolved(live.id, Resolution.RESUMED)
        if live.state is not recorded.state:
            self._store.save_session(live.snapshot())

    def _stop_again(self, live: LiveSession) -> None:
        said = f"{shown(live.name)} was stopped when the monitor before this one ended"
        try:
            report = self._killswitch.freeze(live)
        except (EstopError, OSError) as error:
            _log.error("stop.refused", session=live.id, error=str(error))
            said += f", and could NOT be stopped again: {error}"
        else:
            said += ", and is stopped again: " if report.detail else ", and stays so"
            said += report.detail
        if not self._casebook.is_open(live.id):  # it ended before it could tell anybody
            session = SessionRef(id=live.id, name=live.name)
            evidence = collect(live.cgroup, live.history, live.tree.family())
            self._casebook.found_stopped(session, f"{said}.", evidence)

    def end_empty_ones(self) -> None:
        """Sessions whose last process is gone have ended, whoever is born in the same place after that."""
        for live in self._registry.live():
            if not (live.ended or (live.populated and self._has_ended(live))):
                continue
            if self._registry.end(live):
                self._grants.forget(live.id)
                self._casebook.ended(live.id)
                self._memories.forget(live)
                _log.info("session.ended", session=live.id, state=live.state.value)
            self._store.save_session(live.snapshot())  # once more when its last events are in
            if self._registry.live_in(live.slot) is not live:
                self._tell_who_came_after(live)

    def _has_ended(self, live: LiveSession) -> bool:
        # If somebody of it lives elsewhere, he is back then.
        return self._killswitch.is_empty(live) and not self._killswitch.gather(live)

    def _tell_who_came_after(self, live: LiveSession) -> None:
        """Who came to its cgroup after its end, or has one at the same path, belongs to no session."""
        strangers = cgroups.members(live.cgroup)
        if strangers:
            _log.warning(
                "session.not_followed",
                session=live.id,
                cgroup=str(live.cgroup),
                processes=len(strangers),
                mend=f"attach them again: `estop attach --pid {strangers[0]}`",
            )

    def leave(self) -> None:
        """At the end: empty cgroups go, frozen sessions stay frozen, the rest is said aloud."""
        for live in self._registry.live():
            self._store.save_session(live.snapshot())
            self._memories.keep(live, all_of_it=True)
            if live.ended or self._has_ended(live):
                self._registry.close(live, State.EXITED)
                self._store.save_session(live.snapshot())
            else:
                _log.warning("session.left", session=live.id, state=live.state.value)
        try:
            self._registry.sessions_dir.rmdir()
        except FileNotFoundError:
            return  # there was no session
        except OSError as error:
            _log.info("cgroup.kept", path=str(self._registry.sessions_dir), why=error.strerror)
