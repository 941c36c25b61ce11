# SPDX-License-Identifier: Apache-2.0
"""All sessions: who is watched, in which slot of the kernel's maps, in which state.

API threads open and look up sessions while the pipeline's thread follows what happens in them
(`observer.py`). What both touch is behind one lock, and what leaves is a snapshot. It stops nothing:
see `response/`.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from monitor.errors import AttachError, CaptureError, NotAllowedError, SessionNotFoundError
from monitor.events import Event
from monitor.looking import Look, at_once
from monitor.procfs import has_ended, uids_of
from monitor.sessions import adopt, cgroups
from monitor.sessions.facts import FactMaker
from monitor.sessions.live import LiveSession, now_text
from monitor.sessions.places import view_of
from monitor.sessions.process_tree import read_process
from monitor.subjects import Mode, Origin, Process, Session, State

_MAX_SLOTS = 1023  # MAX_SESSIONS of bpf/maps.h, less slot 0
_MAX_OF_ONE = 128
"""Sessions at a time of one user that is not trusted: the slots are everybody's."""
_NAME_CHARACTERS = 40
_MAX_ENDED = 1_000
_WHOLE_NS = 60_000_000_000
"""So long an ended session stays whole: evidence of its last act is taken, what it wrote is looked at."""


class Registry:
    """The living sessions, and the 1,000 that ended last; those before them are in the record."""

    def __init__(
        self,
        scope: adopt.Scope,
        facts: FactMaker,
        *,
        cgroup_root: Path,
        cgroup_name: str,
        history_events: int = 500,
        clock: Callable[[int], int] = time.clock_gettime_ns,
        unfollowed: Callable[[LiveSession, Sequence[int]], None] = lambda _live, _waiting: None,
        look: Look = at_once,
        adopting: Callable[[], None] = lambda: None,
    ) -> None:
        """`unfollowed` is told whom nobody follows any more, and who of it was stopped for a verdict.

        `look` looks at what a session may serve itself; `adopting` is told first of who ran before.
        """
        self.cgroup_root = cgroup_root
        self.sessions_dir = cgroup_root / cgroup_name
        self._scope = scope
        self._facts = facts
        self._history_events = history_events
        self._clock = clock
        self._unfollowed = unfollowed
        self._look = look
        self._adopting = adopting
        self._lock = threading.RLock()
        self._slots: dict[int, LiveSession] = {}
        self._last_slot = 0
        self._closing: set[int] = set()  # slots that the kernel is still to forget
        self._caught_up_ns = 0
        self._ended: dict[str, LiveSession] = {}
        self._whole: deque[LiveSession] = deque()
        """Of those that ended, whatever `shed` has not been at yet."""
        self._pending: list[Event] = []

    # Looking up ---------------------------------------------------------------------------------

    def live(self) -> list[LiveSession]:
        """Sessions that may have processes."""
        with self._lock:
            return list(self._slots.values())

    def if_nobody_lives(self, act: Callable[[], None]) -> None:
        """Do it, unless there is a session or one begins meanwhile."""
        with self._lock:
            if not self._slots:
                act()

    def snapshots(self) -> list[Session]:
        """Every session that lives or ended lately, the newest last."""
        with self._lock:
            known = [*self._ended.values(), *self._slots.values()]
        return sorted((s.snapshot() for s in known), key=lambda s: s.id)

    def find(self, session: str) -> LiveSession:
        """By id. Names are the API's to resolve: whose they are depends on who asks."""
        with self._lock:
            for known in self._slots.values():
                if known.id == session:
                    return known
            if session in self._ended:
                return self._ended[session]
        raise SessionNotFoundError(f"no session {session!r}", mend="see `estop sessions`")

    def slot_of(self, pid: int) -> int:
        """The slot of the session a process is in, 0 for none: by the kernel's map or its cgroup."""
        slot = self._scope.task_slot(pid)
        if slot:
            return slot
        try:
            cgroup = cgroups.cgroup_of(pid, self.cgroup_root)
        except AttachError:
            return 0
        return next((s.slot for s in self.live() if cgroup.is_relative_to(s.cgroup)), 0)

    # Opening ------------------------------------------------------------------------------------

    def launch(
        self,
        pid: int,
        *,
        name: str,
        argv: Sequence[str],
        mode: Mode,
        uid: int,
        home: str = "",
        owner: int | None = None,
    ) -> LiveSession:
        """Take in a child that waits for our word before it becomes the agent.

        It must be the owner's by every uid it has, if there is one: NotAllowedError.
        """
        moves = adopt.Moves(self.cgroup_root)
        with self._lock:
            if self.slot_of(pid):
                raise NotAllowedError(f"process {pid} is in a session already")
            self._refuse_too_many(owner)
            live = self._new(pid, name, argv, mode, uid, Origin.LAUNCHED, home)
            live.cgroup = adopt.new_cgroup(pid, self.sessions_dir, live.id, self.cgroup_root)
            self._open(live)
            self._scope.watch_task(live.slot, pid)
        try:
            self._take_in_child(live, moves, owner)
            self._facts.look_around(live)
        except Exception:
            self._give_back(live, moves, State.EXITED)
            raise
        live.populated = True
        return live

    def attach(
        self, pid: int, *, name: str, mode: Mode, home: str = "", owner: int | None = None
    ) -> LiveSession:
        """Adopt a tree that runs already, in its own cgroup or in a new one.

        All of it must be the owner's, if there is one: NotAllowedError, and nobody is taken in.
        """
        tree = adopt.tree_of(pid)
        if pid in {1, os.getpid()} or os.getpid() in tree:
            raise AttachError(
                f"process {pid} is init, or has the monitor below it",
                mend="name the agent's own process",
            )
        for process in tree:
            self._in_no_session(process)
        adopt.refuse_others(tree, owner)
        origin, cgroup = adopt.choose_cgroup(pid, self.cgroup_root)
        uid, *_ = uids_of(pid) or (0,)
        root = read_process(pid, uid=uid)
        with self._lock:
            self._adopting()
            self._in_no_session(pid)  # somebody else may have asked for it at the same time
            self._refuse_too_many(owner)
            live = self._new(pid, name or _name_of(root), root.argv, mode, root.uid, origin, home)
            live.cgroup = cgroup or adopt.new_cgroup(
                pid, self.sessions_dir, live.id, self.cgroup_root
            )
            self._know_agent(live, root)
            self._open(live)
            self._scope.watch_task(live.slot, pid)
        moves = adopt.Moves(self.cgroup_root)
        try:
            self._take_in(live, moves, owner)
            self._facts.look_around(live)
        except Exception:
            self._give_back(live, moves, State.LOST)
            raise
        live.populated = True
        return live

    def restore(self, session: Session, slot: int = 0, home: str = "") -> LiveSession:
        """Take a session back that an earlier monitor left running or frozen.

        `slot` is the one in which the kernel follows it already; 0 for none. `home` is the agent's
        own directory, if the user named one.
        """
        with self._lock:
            self._adopting()
            live = self._new(
                session.root_pid, session.name, session.argv, session.mode, session.uid,
                session.origin, home,
            )  # fmt: skip
            live.id, live.started, live.state = session.id, session.started, session.state
            live.hardening = session.hardening
            live.cgroup = Path(session.cgroup)
            live.slot = slot or live.slot
            self._open(live)
        # Not its root as such: that may have ended, and its number be a stranger's. Whoever lives elsewhere
        # and was followed still is.
        for pid in cgroups.members(live.cgroup):
            self._scope.watch_task(live.slot, pid)
            if has_ended(pid):  # since it was listed: nobody would take the row away
                self._scope.forget_task(pid)
                continue
            live.tree.add(read_process(pid, uid=session.uid))
        root = read_process(session.root_pid)
        self._know_agent(live, root)
        self._facts.look_around(live)
        live.populated = True
        return live

    def _know_agent(self, live: LiveSession, root: Process) -> None:
        know = partial(live.know_agent, root.argv or live.argv, root.cwd or "/")
        live.looked(self._look, know, None)

    def _in_no_session(self, pid: int) -> None:
        """AttachError if it is in one: to take it from there would undo its stop."""
        slot = self.slot_of(pid)
        if slot:
            known = self.live_in(slot)
            whose = f": {known.id} ({known.name})" if known is not None else ""
            raise AttachError(
                f"process {pid} is in a session already{whose}",
                mend="attach a process with none of it below, or end that session first",
            )

    def sweep(self) -> None:
        """Remove empty cgroups of ours that no session has: a monitor was killed over them."""
        known = {live.cgroup for live in self.live()}
        if self.sessions_dir.is_dir():
            for path in self.sessions_dir.iterdir():
                if path.is_dir() and path not in known:
                    cgroups.remove(path)

    def _take_in_child(self, live: LiveSession, moves: adopt.Moves, owner: int | None) -> None:
        adopt.refuse_others([live.root_pid], owner)
        if not moves.move(live.root_pid, live.cgroup):
            raise AttachError(f"process {live.root_pid} ended before it could be taken in")
        adopt.refuse_others([live.root_pid], owner)  # whoever had the number when it was moved
        self._take_open_files(live, [live.root_pid])  # what it inherited, nobody saw it open

    def _take_in(self, live: LiveSession, moves: adopt.Moves, owner: int | None) -> None:
        pids = adopt.sweep(live.root_pid, live.slot, self._scope, live.cgroup, moves, owner)
        self._take_open_files(live, pids)

    def _give_back(self, live: LiveSession, moves: adopt.Moves, state: State) -> None:
        """Who was taken in goes back where it was: the session's cgroup must be empty to be removed."""
        self._unfollow(live)  # first, or to leave the cgroup would be an incident
        moves.undo(live.root_pid, live.cgroup)
        self.close(live, state)

    def _take_open_files(self, live: LiveSession, pids: list[int]) -> None:
        """What these processes hold counts as opened or connected now, and its sockets can be cut."""
        held = adopt.watch_sockets(pids, live.slot, self._scope)
        now = self._clock(time.CLOCK_BOOTTIME)
        for pid in pids:
            live.tree.add(read_process(pid, uid=live.uid))
            view = view_of(pid)
            connected = adopt.connections(pid, held.get(pid, ()), live.slot, now, view)
            held_open = adopt.open_files(pid, live.slot, now, view)
            opened: Sequence[Event] = live.looked(self._look, partial(list, held_open), [])
            with self._lock:  # what a file makes of its reader, it was not when it connected
                self._pending.extend((*connected, *opened))

    def _new(
        self,
        pid: int,
        name: str,
        argv: Sequence[str],
        mode: Mode,
        uid: int,
        origin: Origin,
        home: str,
    ) -> LiveSession:
        slot = self._free_slot()
        clean = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:_NAME_CHARACTERS]
        return LiveSession(
            # Sorts by time; the random part keeps ids of two monitors apart.
            id=f"{time.time_ns() // 1_000_000:011x}-{secrets.token_hex(2)}",
            slot=slot,
            name=clean or "agent",
            mode=mode,
            origin=origin,
            cgroup=self.sessions_dir,
            root_pid=pid,
            uid=uid,
            argv=tuple(argv),
            home=home,
            history_events=self._history_events,
        )

    def _refuse_too_many(self, owner: int | None) -> None:
        """AttachError if the owner, unless that is anybody, has as many sessions as one user may."""
        if owner is not None and sum(s.uid == owner for s in self._slots.values()) >= _MAX_OF_ONE:
            raise AttachError(
                f"uid {owner} has {_MAX_OF_ONE} sessions already",
                mend="end one (see `estop sessions`), or ask root",
            )

    def _free_slot(self) -> int:
        """Round and round, so that late events of an ended session find nobody in its slot."""
        for step in range(1, _MAX_SLOTS + 1):
            slot = (self._last_slot + step - 1) % _MAX_SLOTS + 1
            if slot not in self._slots and slot not in self._closing:
                self._last_slot = slot
                return slot
        raise AttachError(
            f"{_MAX_SLOTS} sessions run already", mend="end one: see `estop sessions`"
        )

    def _open(self, live: LiveSession) -> None:
        """From here on the kernel follows the session.

        By its task first, so that nothing goes unseen between this line and the move to the cgroup. Where
        the kernel cannot follow it, there is no session: CaptureError.
        """
        live.cgroup_id = live.cgroup.stat().st_ino
        self._slots[live.slot] = live
        level = cgroups.level_of(live.cgroup, self.cgroup_root)
        observed = live.mode is Mode.OBSERVE
        try:
            self._scope.watch(live.slot, live.cgroup_id, level, observed=observed)
        except CaptureError:
            del self._slots[live.slot]
            if live.origin is not Origin.ATTACHED:
                cgroups.remove(live.cgroup)
            raise

    def live_in(self, slot: int) -> LiveSession | None:
        """The living session in a slot of the kernel's maps."""
        return self._slots.get(slot)

    def caught_up(self, now_ns: int) -> None:
        """Every event from before this time has been observed; called by the pipeline."""
        self._caught_up_ns = now_ns

    def has_seen(self, ktime_ns: int) -> bool:
        """Has every event from before this time been judged?"""
        return self._caught_up_ns > ktime_ns

    def end(self, live: LiveSession) -> bool:
        """Its last process is gone. True when that is news.

        Its last events may still be on their way, and who was quick must not be forgiven: the slot is
        given up only once they have been observed.
        """
        now_ns = self._clock(time.CLOCK_BOOTTIME)
        news = not live.ended
        if news:
            live.empty_ns = now_ns
            live.state = State.KILLED if live.state is State.KILLED else State.EXITED
            live.ended = now_text()
        if self._caught_up_ns > live.empty_ns:
            self.close(live, live.state)
        return news

    def close(self, live: LiveSession, state: State) -> bool:
        """Take the session out of scope and remove its cgroup if that is ours; False if it was done."""
        with self._lock:
            if self._slots.get(live.slot) is not live:
                return False
            del self._slots[live.slot]
            self._closing.add(live.slot)
            live.state, live.ended = state, live.ended or now_text()
            live.empty_ns = live.empty_ns or self._clock(time.CLOCK_BOOTTIME)
            self._ended[live.id] = live
            self._whole.append(live)
            if len(self._ended) > _MAX_ENDED:
                del self._ended[next(iter(self._ended))]
        self._unfollow(live)
        self._closing.discard(live.slot)
        if live.origin is not Origin.ATTACHED:
            cgroups.remove(live.cgroup)
        return True

    def _unfollow(self, live: LiveSession) -> None:
        self._unfollowed(live, self._scope.forget(live.slot))

    def shed(self) -> None:
        """Of sessions that ended a minute ago keep only what they are still asked for."""
        oldest_ns = self._clock(time.CLOCK_BOOTTIME) - _WHOLE_NS
        while self._whole and self._whole[0].empty_ns < oldest_ns:
            self._whole.popleft().shed()

    def pending(self) -> list[Event]:
        """Events made by adoption: what was open or connected before anybody watched."""
        with self._lock:
            waiting, self._pending = self._pending, []
        return waiting


def _name_of(process: Process) -> str:
    return (process.script or process.image or "agent").rpartition("/")[2]
