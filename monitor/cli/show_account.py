# SPDX-License-Identifier: Apache-2.0
"""One incident on a terminal: the sentence, the process tree, the timeline, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text
from rich.tree import Tree

from monitor.cli import show
from monitor.incidents import Standing
from monitor.record.account import Account, Branch, Moment


def account(told: Account, events: int) -> None:
    """One incident for somebody who has just been woken."""
    out = show.console()
    state = told.resolution or told.state
    out.print(show.plain(f"{told.session.name}: {told.title}", "bold"))
    out.print(show.plain(f"{told.opened}  {told.level}  {state}  {told.id}"))
    out.print()
    out.print(show.plain(told.sentence, "bold cyan"))
    out.print()
    out.print(_tree(told.tree))
    out.print()
    show.table(
        ("MS", "KIND", "PID", "WHAT"), [_moment(m) for m in around_the_act(told, events)], ""
    )
    out.print()
    for line in _ending(told):
        out.print(show.plain(line))


def around_the_act(told: Account, most: int) -> list[Moment]:
    """The moments nearest to the act, in order; alerts, steps and people's acts are always there."""
    nearest = sorted(told.timeline, key=lambda moment: abs(moment.at_ms))
    plain_ones = [m for m in nearest if m.kind not in _TOLD_ALWAYS][:most]
    kept = {id(moment) for moment in plain_ones}
    return [m for m in told.timeline if m.kind in _TOLD_ALWAYS or id(m) in kept]


_SHOWN_CHANGED = 8
_TOLD_ALWAYS = {"alert", "step", "action"}


def _moment(moment: Moment) -> tuple[str, str, str, str]:
    mark = ": refused" if moment.refused else ""
    mark += "  <- this" if moment.guilty else ""
    return f"{moment.at_ms:+.2f}", moment.kind, str(moment.pid or ""), moment.text + mark


def _tree(branches: Sequence[Branch]) -> Tree:
    known = {branch.pid for branch in branches}
    below: dict[int, list[Branch]] = {}
    for branch in branches:
        below.setdefault(branch.parent_pid if branch.parent_pid in known else 0, []).append(branch)
    root = Tree(show.plain("processes (! did it, or started what did)"))
    seen: set[int] = set()

    def grow(onto: Tree, pid: int) -> None:
        for branch in below.get(pid, ()):
            if branch.pid not in seen:  # a pid that was used twice may be its own ancestor
                seen.add(branch.pid)
                grow(onto.add(_branch(branch)), branch.pid)

    grow(root, 0)
    return root


def _branch(branch: Branch) -> Text:
    mark = "! " if branch.guilty else ""
    ended = "" if branch.alive else " (ended)"
    command = " ".join(branch.argv) or branch.image
    return show.plain(f"{mark}{branch.pid} {command}{ended}", "bold red" if branch.guilty else "")


def _ending(told: Account) -> Iterator[str]:
    sent = told.sent
    if sent.bytes is not None:
        yield f"sent between the act and the cut: {sent.bytes} bytes"
    for place in sent.destinations:
        where = f"{place.host or place.address} port {place.port}"
        here = ", which is this machine" if place.local else ""
        yield f"connected before: {where} ({place.count} times){here}"
    for changed in told.changed[-_SHOWN_CHANGED:]:
        yield f"{changed.did}: {changed.path}"
    if (more := len(told.changed) - _SHOWN_CHANGED) > 0:
        yield f"and {more} files more before that"
    if told.rule is not None:
        yield f"rule: {told.rule.title} ({told.rule.id}), {told.rule.enforcement}"
        yield f"why it is there: {told.rule.description}"
        for reason in told.rule.falsepositives:
            yield f"known to be harmless: {reason}"
    if told.care.by or told.care.assignee:
        yield f"seen by {told.care.by or 'nobody'}, looked after by {told.care.assignee or 'nobody'}"
    if told.state is Standing.OPEN:
        name = told.session.name
        yield f"next: estop resume {name}, or estop kill {name}"
        if told.rule is not None:
            yield f"to allow it for an hour first: estop grant {name} --rule {told.rule.id}"
    else:
        yield f"{told.resolution} {told.resolved} by {told.resolved_by or 'itself'} {told.why}".rstrip()
