# SPDX-License-Identifier: Apache-2.0
"""Events in their context: whose each is, who did it, and what rules see of it. For one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from monitor import events
from monitor.events import Access, Event
from monitor.fields import Fact
from monitor.looking import Look, at_once
from monitor.sessions import adopt, asked
from monitor.sessions.facts import FactMaker
from monitor.sessions.live import LiveSession
from monitor.sessions.looks import Unknown
from monitor.sessions.process_tree import is_downloader
from monitor.sessions.registry import Registry
from monitor.sessions.settle import Act, Settling, Written
from monitor.sessions.taint import NONE as NO_LABELS
from monitor.sessions.taint import Labels
from monitor.subjects import Process


class Observation(msgspec.Struct, frozen=True):
    """An event in its context: whose it is, who did it, and what rules see of it."""

    event: Event
    live: LiveSession
    process: Process
    facts: Sequence[Fact]
    judged: Sequence[Fact] = ()
    """Facts of the same act by which it was judged before: only what is new is told."""


class Observer:
    """Follows what the sessions do. What came of it lies in each `LiveSession`."""

    def __init__(
        self,
        registry: Registry,
        scope: adopt.Scope,
        facts: FactMaker,
        *,
        labelled: Callable[[LiveSession], None] = lambda _: None,
        look: Look = at_once,
    ) -> None:
        """`labelled` is told when something in a session has touched a secret.

        `look` has looked at what a session may serve itself; where nobody answers in time, the methods
        below raise UnansweredError.
        """
        self._registry = registry
        self._scope = scope
        self._facts = facts
        self._labelled = labelled
        self._look = look
        self.settling = Settling(look)
        self.unjudged = 0
        """Events that broke the pipeline's stages; each is as good as lost."""

    def observe(self, event: Event) -> Observation | None:
        """Put an event in its context; None when its session is gone already."""
        live = self._registry.live_in(event.slot)
        if live is None:
            return None
        self.keep(event, live)
        return self._look(lambda: self._observed(event, live), live.slot)

    def _observed(self, event: Event, live: LiveSession) -> Observation:
        refused = isinstance(event, events.Executed) and events.Verdict.REFUSED in event.verdict
        before = live.tree.get(event.tgid, event.uid) if refused else None
        process = self._follow(event, live)
        facts, left = self._facts_of(event, live, process)
        if left:
            self.settling.defer(Act(event, live, process, facts, deque(left)))
        if before is not None:
            live.tree.add(before)  # it runs what it ran
        return Observation(event, live, process, facts)

    def keep(self, event: Event, live: LiveSession) -> None:
        """It happened, or was refused: it belongs to the session's story."""
        live.events += 1
        live.sent_bytes = event.egress_bytes
        live.history.append(event)

    def consider(self, event: Event) -> Observation | None:
        """What an event would be if it happened; nothing is remembered of it."""
        live = self._registry.live_in(event.slot)
        if live is None:
            return None
        process = live.tree.get(event.tgid, event.uid)
        facts, left = self._look(lambda: self._facts_of(event, live, process), live.slot)
        for file in left:  # the record of the act will leave them too
            file.close()
        return Observation(event, live, process, facts)

    def asked(self, question: asked.Asked, egress_bytes: int) -> events.Opened:
        """An open that waits for our word, as the event it would be."""
        return self._look(lambda: asked.opened(question, egress_bytes), question.slot)

    def _facts_of(
        self, event: Event, live: LiveSession, process: Process
    ) -> tuple[Sequence[Fact], Sequence[Unknown]]:
        """What rules see of it, and the files in it that are still to be compared."""
        for file in live.looks.left():  # of an event that broke the stages
            file.close()
        return self._facts.facts(event, live, process), live.looks.left()

    def _follow(self, event: Event, live: LiveSession) -> Process:
        match event:
            case events.Forked():
                live.tree.fork(event)
            case events.Executed():
                process = live.tree.exec(event, self._facts.lies_at(event.image.path, live))
                if event.tgid == live.root_pid and events.Verdict.REFUSED not in event.verdict:
                    argv = (event.image.path.text, *event.argv[1:])
                    live.know_agent(argv, event.cwd.text)
                return process
            case events.Exited():
                process = live.tree.get(event.tgid, event.uid)
                live.tree.exit(event.tgid)
                if event.tgid == live.root_pid:
                    live.exit_code = event.exit_code
                return process
            case events.Opened():
                process = live.tree.get(event.tgid, event.uid)
                key = (event.file.path.device, event.file.inode)
                read, write = Access.READ in event.access, Access.WRITE in event.access
                live.tree.opened(process.pid, key, read=read, write=write)
                return process
            case events.NameAsked() | events.ServerNamed():
                return live.tree.sender(event.tgid, live.root_pid)
            case events.CgroupMoved():
                return live.tree.get(event.target)  # the mover may be anybody, the monitor too
        return live.tree.get(event.tgid, event.uid)

    def remember(self, observation: Observation, labels: Labels = NO_LABELS) -> None:
        """What later events build on, once this one is judged: files written, names changed.

        `labels` are what the rules that matched give to the process.
        """
        event, facts, live = observation.event, observation.facts, observation.live
        if events.Verdict.REFUSED in event.verdict:
            return
        if labels:
            live.tree.taint(observation.process.pid, labels)
            self._scope.taint(live.slot)
            if isinstance(event, events.Opened):
                self._scope.mark_file(live.slot, event.file.inode)
            self._labelled(live)
        for fact in facts:
            live.seen.add(fact)
        if isinstance(event, events.Opened) and event.access & (Access.WRITE | Access.CREATED):
            key = (event.file.path.device, event.file.inode)
            live.written.add(*key)
            if is_downloader(observation.process.image):
                live.downloaded.add(*key)
            if facts:
                file = Written(event.file.path.text, self._facts.reachable(event, live), key)
                self.settling.add(file, live, observation.process, event.ktime_ns)
        elif isinstance(event, events.Renamed | events.Linked | events.Unlinked):
            for fact in facts:
                self._facts.name_changed(fact)

    def settled(self, now_ns: int) -> list[Observation]:
        """Acts and written files in which there was a copy of their agent, and files that name it."""
        acts = [
            Observation(act.event, act.live, act.process, act.facts, act.judged)
            for act in self.settling.copies()
        ]
        return acts + [
            Observation(
                _settled_event(found.live, found.process, now_ns),
                found.live,
                found.process,
                self._facts.settled(found),
            )
            for found in self.settling.due(now_ns)
        ]


def _settled_event(live: LiveSession, process: Process, now_ns: int) -> Event:
    return Event(
        ktime_ns=now_ns,
        egress_bytes=live.sent_bytes,
        slot=live.slot,
        tgid=process.pid,
        tid=process.pid,
        uid=process.uid,
        view=events.View(0, 0),
        cut=False,
    )
