# SPDX-License-Identifier: Apache-2.0
"""Stops sessions: the only code that freezes, thaws, kills, or cuts a network.

The stop is a sequence, in an order that was measured (bpf/README.md): a freeze alone lets an armed
io_uring chain send, and a kill alone can set one off. So: quarantine in the kernel (which cuts the
network) -> freeze -> confirm -> evidence (not here) -> kill -> confirm empty.
"""

from __future__ import annotations

import errno
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from monitor.errors import GuardError
from monitor.procfs import has_ended
from monitor.response.cgroup_files import (
    CgroupFiles,
    events_of,
    is_there,
    kill_all,
    make_anew,
    write_to,
)
from monitor.response.continuing import continue_held, go_on
from monitor.response.guard import Guard
from monitor.response.holds import Holds, Reason
from monitor.response.standing import Standing, StopReport, Target
from monitor.subjects import State

_FROZEN = "frozen 1"
_ROUNDUPS = 5
"""A fork bomb that is born elsewhere is frozen with its first parent that is brought back."""
_CONTAIN_NAPS_S = (0.00001, 0.00002, 0.00003, 0.0)
_OVER = (State.KILLED, State.EXITED)
_GONE = "the session ended by itself and its cgroup is gone"
_DYING = "the session was killed already"
_STOPPED_AGAIN = "the session was stopped again before it had its network back"
_RESUMED = "the session was resumed before that was confirmed"


class KillSwitch:
    """One for the monitor. All methods may be called from any thread; see `Standing` for who waits."""

    def __init__(
        self,
        quarantine: Callable[[int, bool], None],
        held: Holds,
        *,
        cgroup_root: Path,
        refuse: Callable[[int, bool], None] = lambda _slot, _on: None,
        displaced: Callable[[], int] | None = None,
        still_since: Callable[[int], int] = lambda _slot: 0,
        followed: Callable[[int], Iterable[int]] = lambda _slot: (),
        made_anew: Callable[[int, int], None] = lambda _slot, _cgroup_id: None,
        unblock: Callable[[int], bool] = lambda _slot: False,
        deadline_ms: int = 1000,
        now_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    ) -> None:
        """What the kernel tells of by itself, and who asks it where it does not:

        `displaced` counts how often init or the monitor was moved (`Guard`).
        `still_since` is the CLOCK_BOOTTIME since when the session in a slot stands still, 0 for none.
        `followed` are the processes of the session in a slot, whatever cgroup they are in.
        `made_anew` is told the id of a cgroup that takes the place of one that its session removed.
        `unblock` wakes those of a session who cannot be frozen, if it can.
        """
        self._quarantine = quarantine
        self._held = held
        self._refuse = refuse
        self._standings: dict[str, Standing] = {}
        """By session id."""
        self._numbers = itertools.count(1)
        self._open: dict[str, CgroupFiles] = {}
        self._still_since = still_since
        self._followed = followed
        self._made_anew = made_anew
        self._unblock = unblock
        self._guard = Guard(cgroup_root, displaced)
        self._deadline_ns = deadline_ms * 1_000_000
        self._now_ns = now_ns

    def freeze(self, target: Target, *, patience_ns: int | None = None) -> StopReport:
        """Cut the network, freeze, and wait until the kernel says that everything stands still.

        For `patience_ns`, and not at all for a freeze that was begun before: `confirm` waits on.
        Without it until the deadline.
        """
        self._guard.check(target)
        standing = self._of(target)
        with standing.lock:
            if standing.begun and patience_ns is not None:
                patience_ns = 0
            begun = self._begin(target, standing)
        return begun if begun.done else self.confirm(target, begun, patience_ns=patience_ns)

    def _begin(self, target: Target, standing: Standing) -> StopReport:
        standing.stop = stop = standing.stop or next(self._numbers)
        self._quarantine(target.slot, True)  # noqa: FBT003
        steps = {"cut": self._now_ns()}
        try:
            self._files(target).freeze(b"1")
        except OSError:
            if is_there(target):
                raise
            if not self._living(target):
                return StopReport(done=True, steps_ns=steps, detail=_GONE, stop=stop)
            self._make_anew(target, standing)
        standing.begun = True
        # Who waits for the gate's word cannot freeze; refused before the line above, it would run on.
        self._refuse(target.slot, True)  # noqa: FBT003
        return StopReport(done=False, steps_ns=steps, stop=stop)

    def _make_anew(self, target: Target, standing: Standing) -> None:
        """Who left the cgroup, and removed it, is frozen in another one at the same place, or beside it."""
        self._open.pop(target.id, None)
        standing.beside = make_anew(target)
        self._made_anew(target.slot, target.cgroup_id)
        self._files(target).freeze(b"1")
        for pid in self._living(target):
            if not self.recall(target, pid) and not has_ended(pid):
                raise OSError(
                    errno.EBUSY, f"process {pid} cannot be brought back", str(target.cgroup)
                )

    def confirm(
        self, target: Target, begun: StopReport, *, patience_ns: int | None = None
    ) -> StopReport:
        """Wait for a freeze that was begun, until somebody resumes it; how long: as `freeze`."""
        standing, steps = self._of(target), begun.steps_ns
        begun_ns = standing.contained_ns or steps["cut"]

        def wanted() -> bool:
            return standing.stop == begun.stop

        # Who was sent SIGSTOP counts as frozen, and stays stopped as well until `resume`.
        done = self._wait(target, _FROZEN, wanted, patience_ns)
        if not done and wanted() and patience_ns is None and self._unblock(target.slot):
            done = self._wait(target, _FROZEN, wanted)
        if not done:
            unfinished = self._unfinished("freeze", target, patience_ns)
            detail = unfinished if wanted() else _RESUMED
            return msgspec.structs.replace(begun, detail=detail)
        since_ns = self._still_since(target.slot)
        # It may have stood still before anybody wanted it to: a person froze it.
        frozen_ns = max(since_ns, begun_ns) if since_ns else self._now_ns()
        with standing.lock:
            if standing.stop == begun.stop and target.state not in _OVER:
                target.state = State.FROZEN
        return StopReport(done=True, steps_ns={**steps, "frozen": frozen_ns}, stop=begun.stop)

    def confirm_late(self, target: Target) -> bool:
        """Does one that nobody waits for any more stand still by now? True when that is news."""
        standing = self._of(target)
        if not standing.begun or target.state is not State.RUNNING or not self.is_frozen(target):
            return False
        with standing.lock:
            if standing.begun:
                target.state = State.FROZEN
        return standing.begun

    def is_stopped(self, target: Target) -> bool:
        """It is cut and was told to freeze, whether or not it is known to stand still."""
        return self._of(target).begun

    @contextmanager
    def turn(self, target: Target) -> Iterator[bool]:
        """Nobody else stops it or lets it go meanwhile: is it stopped? Not to be waited in."""
        standing = self._of(target)
        with standing.lock:
            yield bool(standing.stop)

    def contain(self, target: Target) -> None:
        """Begin to freeze while the verdict is still out; `freeze` or `release` must follow."""
        self._guard.check(target)
        standing = self._of(target)
        with standing.lock:
            if standing.stop:  # a person was quicker
                return
            standing.contained_ns = standing.contained_ns or self._now_ns()
            self._files(target).freeze(b"1")
        # Who is held has only to leave the system call, and may need this very processor to do so: see
        # `cgroup_files.py`. Where that is the whole session, it stands still within a nap or two; for others
        # the verdict does not wait.
        for nap_s in _CONTAIN_NAPS_S:
            if self._still_since(target.slot):
                return
            time.sleep(nap_s)

    def is_contained(self, target: Target) -> bool:
        """Does it stand still for a verdict that is still out?"""
        return bool(self._of(target).contained_ns)

    def may_run(self, target: Target) -> bool:
        """Neither contained nor stopped: one look, because it stands between an act and its freeze."""
        standing = self._of(target)
        return not (standing.begun or standing.contained_ns)

    def release(self, target: Target, pid: int, *, thaw: bool = True) -> bool:
        """All is judged: continue `pid` and whoever else the kernel held, and with `thaw` undo `contain`.

        False if something else of the session waits for its verdict (what one thread does would let go
        another), or if it was stopped meanwhile, for another act or by a person: so it stays.
        """
        standing = self._of(target)
        with standing.lock:
            if standing.stop or self._held.waiting(target.slot):
                return False
            if thaw:
                self._uncontain(target)
            others = [
                h.pid for h in self._held.stopped(target.slot) if h.reason is Reason.CANDIDATE
            ]
            continue_held(self._held, target.slot, {pid, *others})
        return True

    def uncontain(self, target: Target) -> bool:
        """Undo `contain`, if that was done; False as above."""
        with self._of(target).lock:
            return self._uncontain(target)

    def _uncontain(self, target: Target) -> bool:
        standing = self._of(target)
        if standing.stop:
            return False
        if standing.contained_ns:
            standing.contained_ns = 0
            self._files(target).freeze(b"0")
        return True

    def waiting(self, slot: int) -> list[int]:
        """The processes of the session in a slot that the kernel stopped."""
        return [hold.pid for hold in self._held.stopped(slot)]

    def resume(self, target: Target, *, decided: Callable[[], None] = lambda: None) -> StopReport:
        """Thaw, then give the network back; to `decided` nobody can have stopped it again yet."""
        self._guard.check(target)
        standing = self._of(target)
        with standing.lock:
            if standing.killed:
                return StopReport(done=False, steps_ns={}, detail=_DYING)
            standing.lift()
            if target.state not in _OVER:
                target.state = State.RUNNING  # before it runs: what it does then is judged by that
            try:
                self._files(target).freeze(b"0")
            except OSError:  # if it is gone, nobody is left to be thawed
                if is_there(target):
                    raise
            decided()
        done = self._wait(target, "frozen 0", lambda: not standing.stop)
        with standing.lock:
            if standing.stop:  # for what it did since, or by somebody else, and that stands
                return StopReport(done=True, steps_ns={}, detail=_STOPPED_AGAIN)
            self._quarantine(target.slot, False)  # noqa: FBT003
            self._refuse(target.slot, False)  # noqa: FBT003
            # While a verdict is out, that is what continues them.
            continue_held(self._held, target.slot, self.waiting(target.slot))
        return StopReport(
            done=done,
            steps_ns={"resumed": self._now_ns()},
            detail="" if done else self._unfinished("thaw", target),
        )

    def kill(self, target: Target) -> StopReport:
        """Freeze as above, kill everything in the cgroup at once, and prove that it is empty."""
        report = self.freeze(target)
        steps = dict(report.steps_ns)
        standing = self._of(target)
        # A freeze that is not confirmed (a task in D state) must not save the session from dying.
        with standing.lock:
            if not standing.begun:  # it was resumed meanwhile, and the cut comes before the kill
                self._begin(target, standing)
            self._kill_all(target)
            standing.killed = True
        steps["killed"] = self._now_ns()
        done = self._wait(target, "populated 0") and self._kill_the_rest(target)
        if done:
            steps["empty"] = self._now_ns()
            target.state = State.KILLED
        return StopReport(
            done=done,
            steps_ns=steps,
            detail="" if done else self._unfinished("kill", target),
        )

    def _kill_all(self, target: Target) -> None:
        try:
            kill_all(target)
        except OSError:
            if is_there(target):
                raise

    def _kill_the_rest(self, target: Target) -> bool:
        """Who was born in another cgroup, or went there a moment ago; False if somebody cannot be had."""
        for _ in range(_ROUNDUPS):
            if not self.gather(target):
                return True
            self._kill_all(target)
            if not self._wait(target, "populated 0"):
                return False
        return False

    def gather(self, target: Target) -> list[int]:
        """The cgroup is empty: bring whoever the kernel follows all the same back into it.

        Those that live, whether they came or could not be brought.
        """
        away = self._living(target)
        return [pid for pid in away if self.recall(target, pid) or not has_ended(pid)]

    def _living(self, target: Target) -> list[int]:
        """Processes of the session, wherever they are."""
        return [pid for pid in self._followed(target.slot) if not has_ended(pid)]

    def recall(self, target: Target, pid: int) -> bool:
        """Bring a process that left the session's cgroup back into it."""
        self._guard.check(target)
        try:
            write_to(target, "cgroup.procs", b"%d" % pid)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give the descriptors back."""
        self._guard.close()
        self._open.clear()

    def is_empty(self, target: Target) -> bool:
        """True when the session's cgroup has no process left, or is gone."""
        return "populated 0" in events_of(target)

    def is_frozen(self, target: Target) -> bool:
        """What the kernel says now."""
        return _FROZEN in events_of(target)

    def is_told_to_freeze(self, target: Target) -> bool:
        """Somebody wanted it to stand still, whether or not it does."""
        try:
            return (target.cgroup / "cgroup.freeze").read_text() == "1\n"
        except OSError:
            return False

    def _of(self, target: Target) -> Standing:
        standing = self._standings.get(target.id)
        return standing or self._standings.setdefault(target.id, Standing())

    def _files(self, target: Target) -> CgroupFiles:
        """The session's files, open from its first use on: opening costs more than writing."""
        files = self._open.get(target.id)
        if files is None:
            files = self._open.setdefault(target.id, CgroupFiles(target))
        return files

    def prepare(self, target: Target) -> None:
        """Have everything ready for the session's stop."""
        with suppress(OSError, GuardError):  # whoever stops it is told
            self._guard.check(target)
            self._files(target)

    def forget(self, target: Target, waiting: Iterable[int] = ()) -> None:
        """The session is over: whoever of it lives goes on, as nobody could resume him any more.

        Nobody does, unless an attach failed halfway; but a cgroup that is not ours may be used again.
        `waiting` are the processes that the kernel had stopped for a verdict.
        """
        self._refuse(target.slot, False)  # noqa: FBT003
        standing = self._of(target)
        with standing.lock, suppress(OSError):  # it was removed
            if standing.begun or standing.contained_ns:
                standing.lift()
                self._files(target).freeze(b"0")
        go_on(waiting)
        if standing.beside:
            with suppress(OSError):  # somebody lives there all the same
                target.cgroup.rmdir()
        self._open.pop(target.id, None)
        self._guard.forget(target)
        self._standings.pop(target.id, None)

    def _wait(
        self,
        target: Target,
        wanted: str,
        still: Callable[[], bool] = lambda: True,
        patience_ns: int | None = None,
    ) -> bool:
        """Wait for a line of cgroup.events, until the deadline, and no longer than it is `still` wanted.

        A removed cgroup is empty, and nobody stands still in it.
        """
        longest_ns = self._deadline_ns if patience_ns is None else patience_ns
        try:
            return self._files(target).wait(
                wanted, lambda passed_ns: passed_ns <= longest_ns and still()
            )
        except OSError:  # it was removed while we waited
            return wanted in events_of(target)

    def _unfinished(self, verb: str, target: Target, patience_ns: int | None = None) -> str:
        network = "the network is given back" if verb == "thaw" else "the network stays cut"
        waited = (self._deadline_ns if patience_ns is None else patience_ns) // 1_000_000
        says = " ".join(events_of(target).split())
        return f"{verb} not confirmed after {waited} ms (cgroup.events: {says}); {network}"
