# SPDX-License-Identifier: Apache-2.0
"""What many signatures say of one path, network or socket, as one entry that is true of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from monitor.detection.atoms import OnAddress, OnPath
from monitor.lowered import Act, NetworkWatch, SocketWatch, Watch, Where, above

ANYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Entry:
    """One signature on one act on one path."""

    on: OnPath
    act: Act
    certain: bool
    exempt: frozenset[str]
    rule: str


@dataclass(frozen=True, slots=True)
class Reach:
    """One signature on one address."""

    on: OnAddress
    certain: bool
    rule: str


@dataclass(frozen=True, slots=True)
class Socket:
    """One signature on one local socket."""

    where: Where
    path: str
    certain: bool
    rule: str


def watches(entries: Iterable[Entry]) -> tuple[Watch, ...]:
    """One watch for each path."""
    grouped: defaultdict[tuple[Where, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        grouped[entry.on.where, entry.on.path].append(entry)
    return tuple(_watch(where, path, group) for (where, path), group in sorted(grouped.items()))


def _watch(where: Where, path: str, entries: Sequence[Entry]) -> Watch:
    """Only programs that every signature forgives are exempt: any other exemption would be a miss.

    The rest are held and let go again. So an act stays certain only if the kernel would not refuse
    it to a program that the act's own signatures forgive.
    """
    exempt = frozenset.intersection(*(entry.exempt for entry in entries))
    hold = certain = Act(0)
    for entry in entries:
        hold |= entry.act
    for act in hold:
        forgiving = [e.exempt for e in entries if e.act is act and e.certain]
        if forgiving and frozenset.intersection(*forgiving) == exempt:
            certain |= act
    rules = frozenset(entry.rule for entry in entries)
    return Watch(where, path, hold, certain, exempt, rules)


@dataclass(frozen=True, slots=True)
class Shared:
    """What stays certain of a watch, and the signatures that make it less."""

    certain: Act
    rules: frozenset[str]


def shared(
    watches: Iterable[Watch], sockets: Iterable[SocketWatch]
) -> dict[tuple[Where, str], Shared]:
    """What the kernel has certain of each watch, where others speak of the same files.

    It finds one row for what is said of a path by its whole name and by its end, and one for the
    directories above it, and a row forgives one set of programs or nobody.
    """
    watches = tuple(watches)
    all_: list[Watch] = [*watches, *(one for watch in watches for one in above(watch))]
    all_ += [Watch(s.where, s.path, Act.CONNECT, Act(0), rules=s.rules) for s in sockets]
    known: defaultdict[tuple[Where, str], list[Watch]] = defaultdict(list)
    for watch in all_:
        known[watch.where, watch.path].append(watch)
    others: defaultdict[tuple[Where, str], set[str]] = defaultdict(set)
    for (where, path), here in known.items():
        there = [one for key in _wider(where, path) for one in known.get(key, ())]
        for one, other in product(here, here + there):
            if one.exempt != other.exempt:
                others[where, path] |= other.rules
                others[other.where, other.path] |= one.rules
    return {
        (watch.where, watch.path): Shared(Act(0), frozenset(others[watch.where, watch.path]))
        if watch.exempt and (watch.where, watch.path) in others
        else Shared(watch.certain, watch.rules)
        for watch in watches
    }


def _wider(where: Where, path: str) -> Iterator[tuple[Where, str]]:
    """Watches that mean all paths which this one means, and are in the same half of a row."""
    slashes = [at for at, letter in enumerate(path) if letter == "/"]
    if where is Where.BELOW:
        yield from ((where, path[: at + 1]) for at in slashes[:-1])
    else:
        yield from ((Where.ENDING, path[at:]) for at in slashes[where is Where.ENDING :])


def networks(reaches: Iterable[Reach]) -> tuple[NetworkWatch, ...]:
    """One for each network, certainty and set of signatures; ports stand together."""
    single: defaultdict[tuple[str, int], list[Reach]] = defaultdict(list)
    for reach in reaches:
        for network in (reach.on.network,) if reach.on.network else ANYWHERE:
            single[network, reach.on.port].append(reach)
    grouped: defaultdict[tuple[str, bool, bool, frozenset[str]], list[int]] = defaultdict(list)
    for (network, port), group in single.items():
        certain = any(reach.certain for reach in group)
        rules = frozenset(reach.rule for reach in group)
        grouped[network, port == 0, certain, rules] += [port] if port else []
    return tuple(
        NetworkWatch(network, tuple(sorted(ports)), certain, rules)
        for (network, _, certain, rules), ports in sorted(grouped.items(), key=str)
    )


def sockets(found: Iterable[Socket]) -> tuple[SocketWatch, ...]:
    """One watch for each socket."""
    grouped: defaultdict[tuple[Where, str], list[Socket]] = defaultdict(list)
    for socket in found:
        grouped[socket.where, socket.path].append(socket)
    return tuple(
        SocketWatch(where, path, any(s.certain for s in group), frozenset(s.rule for s in group))
        for (where, path), group in sorted(grouped.items())
    )
