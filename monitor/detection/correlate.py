# SPDX-License-Identifier: Apache-2.0
"""Which correlations an event completes; it must not evaluate conditions or act.

The order of events is the kernel's (`Event.ktime_ns`), not that of their arrival. A session's events
count for that session only, whatever `group-by` says: nobody is stopped for what another did.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from monitor.alerts import Rule
from monitor.detection import values
from monitor.detection.correlation import Correlation
from monitor.detection.windows import entries, window
from monitor.fields import Fact

Matches = Mapping[str, tuple[Rule, Fact]]
"""Rule id -> the rule and the fact that it matched, of one event."""

SESSIONS = 256
"""Sessions with a memory, for each correlation; the one that was quiet longest is forgotten first."""
GROUPS = 512
"""Groups of one session, for each correlation: an agent can push out nobody's but its own."""
ENTRIES = 8192
"""What all groups of a session remember together, for each correlation."""

_ADDED = "Correlation"
"""The field that the last event's fact gets for the alert."""


class Correlator:
    """The correlations of a rule set and what they remember. `evicted` counts forgotten groups."""

    def __init__(
        self, correlations: Iterable[Correlation], titles: Mapping[str, str], old: Correlator | None
    ) -> None:
        """Those that refer to others come after them. What `old` remembers of the same ones stays."""
        self.evicted: int = old.evicted if old else 0
        self._titles = titles
        kept = old.memories if old else {}
        self._memories: list[_Memory] = []
        self._watching: defaultdict[str, list[int]] = defaultdict(list)
        for index, correlation in enumerate(correlations):
            before = kept.get(correlation.rule.id)
            same = before is not None and before.correlation == correlation
            self._memories.append(before if before and same else _Memory(correlation))
            for rule_id in dict.fromkeys(correlation.references):
                self._watching[rule_id].append(index)

    @property
    def memories(self) -> dict[str, _Memory]:
        """Id of a correlation -> what it remembers."""
        return {memory.correlation.rule.id: memory for memory in self._memories}

    def feed(self, ktime_ns: int, matches: Matches) -> dict[str, tuple[Rule, Fact]]:
        """The correlations that fire with this event. A rule that it matches counts once."""
        fired: dict[str, tuple[Rule, Fact]] = {}
        if self._watching.keys().isdisjoint(matches):
            return fired
        todo = {index for rule_id in matches for index in self._watching.get(rule_id, ())}
        while todo:
            index = min(todo)
            todo.remove(index)
            memory = self._memories[index]
            rule = memory.correlation.rule
            found = memory.feed(ktime_ns, {**matches, **fired} if fired else matches)
            self.evicted += memory.evicted
            memory.evicted = 0
            if found is not None:
                fired[rule.id] = rule, self._told(found, memory.correlation)
                todo.update(self._watching.get(rule.id, ()))
        return fired

    def _told(self, found: tuple[Fact, list[dict[str, Any]]], correlation: Correlation) -> Fact:
        """The last event's fact, and what went before it."""
        fact, parts = found
        for part in parts:
            if "rule" in part:
                rule_id = correlation.references[part["rule"]]
                part["rule"] = self._titles.get(rule_id, rule_id)
        return Fact(category=fact.category, fields={**fact.fields, _ADDED: parts})


class _Group:
    """A window, and whether it has told."""

    __slots__ = ("_fired_ns", "_newest_ns", "window")

    def __init__(self, correlation: Correlation) -> None:
        self.window = window(correlation)
        self._fired_ns: int | None = None
        self._newest_ns = 0

    def fires(self, ktime_ns: int, seen: list[int], value: int, timespan_ns: int) -> bool:
        """Once, and again when the condition was false since or the timespan has passed."""
        late = ktime_ns < self._newest_ns
        self._newest_ns = max(self._newest_ns, ktime_ns)
        if not self.window.add(ktime_ns, seen, value):
            if not late:
                self._fired_ns = None
            return False
        if self._fired_ns is not None and self._newest_ns - self._fired_ns <= timespan_ns:
            return False
        self._fired_ns = self._newest_ns
        return True


class _Memory:
    """The groups of one correlation, by session."""

    def __init__(self, correlation: Correlation) -> None:
        self.correlation = correlation
        self.evicted = 0
        self._most = max(1, min(GROUPS, ENTRIES // entries(correlation)))
        self._sessions: OrderedDict[object, OrderedDict[int, _Group]] = OrderedDict()

    def feed(self, ktime_ns: int, matches: Matches) -> tuple[Fact, list[dict[str, Any]]] | None:
        """One event. Rules whose facts belong to different groups are told to each group."""
        grouped: dict[int, tuple[Fact, list[int], int]] = {}
        for position, rule_id in enumerate(self.correlation.references):
            if rule_id in matches:
                fact = matches[rule_id][1]
                value = self._value(rule_id, fact)
                if value is not None:
                    key = self._hash(self.correlation.group_by, rule_id, fact)
                    grouped.setdefault(key, (fact, [], value))[1].append(position)
        found = None
        for key, (fact, seen, value) in grouped.items():
            group = self._group(fact.fields.get("AgentSession"), key)
            if group.fires(ktime_ns, seen, value, self.correlation.timespan_ns):
                found = fact, group.window.told()
        return found

    def _value(self, rule_id: str, fact: Fact) -> int | None:
        """The value to count; None for an event that has none."""
        counted = self.correlation.counted
        if counted and all(self._field(name, rule_id, fact) is None for name in counted):
            return None
        return self._hash(counted, rule_id, fact) if counted else 0

    def _hash(self, names: Iterable[str], rule_id: str, fact: Fact) -> int:
        """Instead of the values themselves, which can be long and many: an agent chooses them."""
        return hash(tuple(_spelled(self._field(name, rule_id, fact)) for name in names))

    def _field(self, name: str, rule_id: str, fact: Fact) -> object:
        return fact.fields.get(self.correlation.aliases.get((name, rule_id), name))

    def _group(self, session: object, key: int) -> _Group:
        sessions = self._sessions
        groups = sessions.setdefault(session, OrderedDict())
        sessions.move_to_end(session)
        if len(sessions) > SESSIONS:
            _, forgotten = sessions.popitem(last=False)
            self.evicted += len(forgotten)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(self.correlation)
            if len(groups) > self._most:
                groups.popitem(last=False)
                self.evicted += 1
        groups.move_to_end(key)
        return group


def _spelled(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return tuple(values.text(one) for one in value)
    return None if value is None else values.text(value)
