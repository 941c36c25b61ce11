# SPDX-License-Identifier: Apache-2.0
"""What is looked at now and then, in this order, on threads of its own and never the pipeline's.

Whatever takes its time here takes the interpreter's lock from the pipeline in pieces: an act that is
judged meanwhile is stopped that much later.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from monitor.capture.gate import Gate
from monitor.errors import RuleError
from monitor.housekeeper import Housekeeper
from monitor.lifecycle import Lifecycle
from monitor.memories import Memories
from monitor.response.grants import Grants
from monitor.response.marks import Marks
from monitor.response.protection import OwnLimits
from monitor.response.verdicts import Verdicts
from monitor.rulebook import Rulebook
from monitor.served import Served
from monitor.sessions.places import HostMounts, Roots
from monitor.sessions.registry import Registry
from monitor.sessions.watched import WatchedPaths

_log = structlog.get_logger()

_ROUND_S = 0.5
_MARK_ROUNDS = 10
"""Until all files are marked anew: one that was deleted and made again may have its inode's number and
no mark. Until then its open is held, not refused."""


@dataclass(kw_only=True)
class Rounds:
    """Joins what has to be looked at; `walk` and `follow_paths` belong to a thread each."""

    registry: Registry
    rulebook: Rulebook
    mounts: HostMounts
    roots: Roots
    served: Served
    watched: WatchedPaths
    verdicts: Verdicts
    lifecycle: Lifecycle
    grants: Grants
    housekeeper: Housekeeper
    memories: Memories
    marks: Marks
    gate: Gate
    limits: OwnLimits
    _gatekeeper: int = field(default=0, init=False)
    """Whose marks were set: the process of the gate."""

    def walk(self, stop: threading.Event, reload: threading.Event) -> None:
        """Round after round until `stop`; `reload` asks for the rules to be read again."""
        for number in itertools.count():
            if stop.wait(_ROUND_S):
                return
            if reload.is_set():
                reload.clear()
                self._reload()
            self._keep_limits()
            self.mounts.refresh()
            # Where a session began cannot be reached any more once its root process went elsewhere.
            self.roots.release(keep={live.view for live in self.registry.live()})
            self.registry.if_nobody_lives(self.served.are_strangers)
            self.watched.refresh()
            for slot in self.watched.unanswered():
                if (live := self.registry.live_in(slot)) is not None:
                    live.does_not_answer()
            self.verdicts.refresh()
            self.lifecycle.end_empty_ones()
            self.registry.shed()
            self.grants.expire()
            self.housekeeper.look()
            for live in self.registry.live():
                self.memories.keep(live)
            self._keep_marks(all_anew=not number % _MARK_ROUNDS)

    def follow_paths(self, stop: threading.Event) -> None:
        """What sessions make of watched paths, as the kernel has to know it."""
        while not stop.is_set():
            self.watched.follow(_ROUND_S)

    def _reload(self) -> None:
        try:
            self.rulebook.reload()
        except RuleError as error:  # told in the log: nobody waits for our answer
            _log.error("rules.kept", why=str(error), mend=error.mend)

    def _keep_limits(self) -> None:
        with suppress(OSError, ValueError):  # a hard limit, and no CAP_SYS_RESOURCE
            if changed := self.limits.restore():
                _log.warning("monitor.limits_restored", limits=changed)

    def _keep_marks(self, *, all_anew: bool) -> None:
        if all_anew or self._gatekeeper != self.gate.pid:
            self._gatekeeper = self.gate.pid  # a new one has no marks
            self.marks.refresh()
        self.marks.follow(self.watched.tables())
