# SPDX-License-Identifier: Apache-2.0
"""What one group of a correlation remembers, one class for each kind; all of it is bounded.

Times are CLOCK_BOOTTIME ns. They come nearly in order: the kernel's two rings are read one after the
other, so an event may be late. A late event counts at its own time; for that, each class keeps what
it needs and no more.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from monitor.detection.correlation import Correlation, Formula, Kind, holds

_LATE_NS = 1_000_000_000
"""How late an event may be and still find its place in an order."""
_RECENT = 16
"""Events of that time that are kept. More of them in one group, and a late one is taken as it
comes: it cannot fake an order then, but it may miss one."""


class Window(Protocol):
    """The memory of one group."""

    def add(self, ktime_ns: int, seen: Sequence[int], value: int) -> bool:
        """Take an event that matched these references. Does the condition hold with it?"""
        ...

    def told(self) -> list[dict[str, Any]]:
        """What made it hold, for an alert. `rule` is a position among the references."""
        ...


def window(correlation: Correlation) -> Window:
    """An empty memory for one group."""
    least, timespan_ns = correlation.least, correlation.timespan_ns
    match correlation.kind:
        case Kind.EVENT_COUNT:
            return Count(least, timespan_ns)
        case Kind.VALUE_COUNT:
            return Values(least, timespan_ns)
        case Kind.TEMPORAL:
            return Together(least, timespan_ns, correlation.formula)
        case Kind.TEMPORAL_ORDERED:
            return InOrder(len(correlation.references), timespan_ns)


def entries(correlation: Correlation) -> int:
    """How much one group remembers at most."""
    match correlation.kind:
        case Kind.EVENT_COUNT | Kind.VALUE_COUNT:
            return correlation.least
        case Kind.TEMPORAL:
            return len(correlation.references)
        case Kind.TEMPORAL_ORDERED:
            return len(correlation.references) + _RECENT


class Count:
    """The times of the newest `least` events."""

    def __init__(self, least: int, timespan_ns: int) -> None:
        self._least = least
        self._timespan_ns = timespan_ns
        self._times: deque[int] = deque(maxlen=least)

    def add(self, ktime_ns: int, seen: Sequence[int], value: int) -> bool:  # noqa: ARG002 -- a Window
        """The newest `least` must be near enough."""
        times = self._times
        if times and ktime_ns < times[-1]:
            return self._late(ktime_ns)
        times.append(ktime_ns)
        return len(times) == self._least and ktime_ns - times[0] <= self._timespan_ns

    def _late(self, ktime_ns: int) -> bool:
        """Any `least` neighbours with this event among them may be near enough."""
        times, least = list(self._times), self._least
        at = bisect_right(times, ktime_ns)
        times.insert(at, ktime_ns)
        self._times.clear()
        self._times.extend(times)  # which lets go of the oldest
        firsts = range(max(0, at - least + 1), min(at, len(times) - least) + 1)
        return any(times[i + least - 1] - times[i] <= self._timespan_ns for i in firsts)

    def told(self) -> list[dict[str, Any]]:
        """How many, and since when."""
        return [{"count": len(self._times), "first_ktime_ns": self._times[0]}]


class Values:
    """When each of the newest `least` different values was last there, the oldest first."""

    def __init__(self, least: int, timespan_ns: int) -> None:
        self._least = least
        self._timespan_ns = timespan_ns
        self._last: dict[int, int] = {}

    def add(self, ktime_ns: int, seen: Sequence[int], value: int) -> bool:  # noqa: ARG002 -- a Window
        """`value` is a hash: what an agent chose could be of any length."""
        last = self._last
        newest_ns = next(reversed(last.values()), 0)
        last[value] = max(last.pop(value, 0), ktime_ns)
        if ktime_ns < newest_ns:
            self._last = last = dict(sorted(last.items(), key=lambda item: item[1]))
        start_ns = max(newest_ns, ktime_ns) - self._timespan_ns
        while len(last) > self._least or last[next(iter(last))] < start_ns:
            del last[next(iter(last))]
        return len(last) >= self._least

    def told(self) -> list[dict[str, Any]]:
        """How many, and since when."""
        return [{"count": len(self._last), "first_ktime_ns": min(self._last.values())}]


class Together:
    """When each reference last matched."""

    def __init__(self, least: int, timespan_ns: int, formula: Formula | None) -> None:
        self._least = least
        self._timespan_ns = timespan_ns
        self._formula = formula
        self._last: dict[int, int] = {}
        self._present: Collection[int] = ()

    def add(self, ktime_ns: int, seen: Sequence[int], value: int) -> bool:  # noqa: ARG002 -- a Window
        """What is present is what matched within the timespan before the newest event."""
        last = self._last
        for position in seen:
            last[position] = max(last.get(position, 0), ktime_ns)
        start_ns = max(last.values()) - self._timespan_ns
        self._present = {position for position, at in last.items() if at >= start_ns}
        if self._formula is not None:
            return holds(self._formula, self._present)
        return len(self._present) >= self._least

    def told(self) -> list[dict[str, Any]]:
        """Each reference that is present, the first first."""
        present = sorted((self._last[position], position) for position in self._present)
        return [{"rule": position, "ktime_ns": at} for at, position in present]


Chains = list[tuple[int, ...]]
"""At index i the times of a chain of the first i + 1 references, of those the one that began last."""


class InOrder:
    """For each beginning of the list the chain that began last, and the events of the last second."""

    def __init__(self, length: int, timespan_ns: int) -> None:
        self._timespan_ns = timespan_ns
        self._settled: Chains = [()] * length
        """As it was before the first of the recent events."""
        self._chains: Chains = [()] * length
        self._recent: deque[tuple[int, tuple[int, ...]]] = deque()
        self._newest_ns = 0

    def add(self, ktime_ns: int, seen: Sequence[int], value: int) -> bool:  # noqa: ARG002 -- a Window
        """A late event goes to its place in the order, and what came after it is gone through anew."""
        event = (ktime_ns, tuple(seen))
        if ktime_ns >= self._newest_ns:
            self._newest_ns = ktime_ns
            self._recent.append(event)
            _advance(self._chains, event)
        else:
            at = bisect_left(self._recent, (ktime_ns + 1,))
            self._recent.insert(at, event)
            self._chains = list(self._settled)
            for one in self._recent:
                _advance(self._chains, one)
        recent = self._recent
        while len(recent) > _RECENT or recent[0][0] < self._newest_ns - _LATE_NS:
            _advance(self._settled, recent.popleft())
        whole = self._chains[-1]
        return bool(whole) and whole[0] >= self._newest_ns - self._timespan_ns

    def told(self) -> list[dict[str, Any]]:
        """The chain, link by link."""
        return [{"rule": i, "ktime_ns": at} for i, at in enumerate(self._chains[-1])]


def _advance(chains: Chains, event: tuple[int, tuple[int, ...]]) -> None:
    """The longest first: one event is no two links of a chain."""
    ktime_ns, seen = event
    for position in range(len(chains) - 1, -1, -1):
        if position not in seen:
            continue
        before = chains[position - 1] if position else ()
        if position and (not before or before[-1] > ktime_ns):
            continue
        longer = (*before, ktime_ns)
        if not chains[position] or longer[0] >= chains[position][0]:
            chains[position] = longer
