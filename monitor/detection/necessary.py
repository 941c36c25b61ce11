# SPDX-License-Identifier: Apache-2.0
"""The comparisons of which one must hold if a condition does, for one case of its category."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from monitor.detection.atoms import OnAddress, OnPath, OnTaint
from monitor.detection.cases import Case, Kind
from monitor.detection.condition import AllOf, AnyOf, Condition, Leaf, Match, Not
from monitor.lowered import Where

Atom = OnPath | OnAddress | OnTaint
AtomOf = Callable[[Leaf], Atom | str]
"""A leaf as an atom that holds whenever the leaf does, or why there is none."""

_GLOB = re.compile(r"\\([^0-9A-Za-z])|(\.\*|\.)|(.)", re.DOTALL)
"""The pieces of the RE2 text that `sigma.py` writes for wildcards: quoted, wild, plain."""
_GLOB_HEAD = "(?s)"
_SPECIAL = {"", ".", ".."}
_MAX_PORT = 65535
_TEXT = {Match.EQUALS, Match.PREFIX, Match.SUFFIX, Match.CONTAINS, Match.GLOB, Match.REGEX}
"""Comparisons that hold of no field that is absent."""


@dataclass(frozen=True, slots=True)
class Found:
    """If the condition holds, one of `atoms` does, or what `left` tells of made it hold."""

    atoms: tuple[Atom, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def worth(self) -> tuple[bool, bool, tuple[int, int]]:
        """Which of several to take where each alone would do: all seen, then the fewest finds."""
        weakest = min((atom.rank for atom in self.atoms), default=(0, 0))
        return not self.left, bool(self.atoms), weakest


def necessary(condition: Condition, atom_of: AtomOf) -> Found:
    """The necessary parts of a folded condition."""
    match condition:
        case Leaf():
            found = atom_of(condition)
            return Found((), (found,)) if isinstance(found, str) else Found((found,))
        case Not(term):
            field = f"`{term.field}`" if isinstance(term, Leaf) else "a condition"
            return Found((), (f"`not` {field} names nothing to look up",))
        case AnyOf(terms):
            each = [necessary(term, atom_of) for term in terms]
            atoms = dict.fromkeys(atom for one in each for atom in one.atoms)
            left = dict.fromkeys(reason for one in each for reason in one.left)
            return Found(tuple(atoms), tuple(left))
        case AllOf(terms):
            # Of those that name nothing, what is asserted tells more than what is denied.
            helpful = sorted(terms, key=lambda term: isinstance(term, Not))
            each = [necessary(term, atom_of) for term in helpful]
            none = Found((), ("it names nothing to look up",))
            return max(each, key=lambda found: found.worth, default=none)


def atom_of(case: Case) -> AtomOf:
    """How the leaves of this case are looked up."""
    if case.kind is Kind.PATH:
        return lambda leaf: _path(leaf) if leaf.field in case.acts else _unknown(leaf)
    if case.kind is Kind.SOCKET:
        named = "DestinationHostname"
        return lambda leaf: _socket(leaf) if leaf.field == named else _unknown(leaf)
    if case.kind is Kind.ADDRESS:
        return address
    return _unknown


def address(leaf: Leaf) -> Atom | str:
    """A leaf about the other end of a connection."""
    if leaf.field == "DestinationPort":
        return port(leaf)
    if leaf.field == "Tainted" and leaf.match in _TEXT:
        return OnTaint()
    if leaf.field != "DestinationIp":
        return _unknown(leaf)
    if leaf.match is Match.NETWORK:
        return OnAddress(str(leaf.value))
    try:
        found = ip_address(str(leaf.value))
    except ValueError:
        found = None
    if leaf.match is not Match.EQUALS or found is None:
        return f"`{leaf.field}|{leaf.match}` is not looked up: give it as `cidr`"
    return OnAddress(f"{found}/{found.max_prefixlen}")


def port(leaf: Leaf) -> Atom | str:
    """A leaf about a port."""
    if leaf.field != "DestinationPort":
        return _unknown(leaf)
    text = str(leaf.value)
    plain = leaf.match is Match.EQUALS and text.isascii() and text.isdecimal()
    if plain and text == str(int(text)) and 0 < int(text) <= _MAX_PORT:
        return OnAddress(port=int(text))
    return f"`{leaf.field}|{leaf.match}` is not looked up: name each port"


def _unknown(leaf: Leaf) -> str:
    return f"`{leaf.field}` is not known in the kernel"


def _socket(leaf: Leaf) -> Atom | str:
    found = _path(leaf)
    if isinstance(found, OnPath) and found.where is Where.BELOW:
        return f"`{leaf.field}|{leaf.match}` is not looked up: name the whole socket"
    return found


def _path(leaf: Leaf) -> Atom | str:
    """Names of files are compared byte by byte, from the front or from the back."""
    text, how = str(leaf.value), leaf.match
    if how in {Match.GLOB, Match.SUFFIX}:
        tail = _glob_tail(text) if how is Match.GLOB else text
        where, path = Where.ENDING, tail[tail.find("/") :] if "/" in tail else ""
    elif how is Match.PREFIX:
        where, path = Where.BELOW, text if text.endswith("/") else ""
    elif how is Match.EQUALS:
        where, path = Where.EXACT, text
    else:
        return f"`{leaf.field}|{how}` would have to be searched for"
    if where is Where.BELOW and path == "/":
        return f"`{leaf.field}|{how}` of `/` is every file"
    if not path:
        return f"`{leaf.field}|{how}` of `{text}` ends within a name"
    if not leaf.cased and not (path.isascii() and path.lower() == path.upper()):
        return f"`{leaf.field}|{how}` is compared without regard to case: give it `cased`"
    if not _spelt(path, where):
        return f"`{path}` is no path as the kernel spells it"
    return OnPath(leaf.field, where, path)


def _spelt(path: str, where: Where) -> bool:
    names = path.split("/")
    inner = names[1:-1] if where is Where.BELOW else names[1:]
    return names[0] == "" and "\0" not in path and not _SPECIAL & set(inner)


def _glob_tail(expression: str) -> str:
    """What follows the last wildcard."""
    tail = ""
    for quoted, wild, plain in _GLOB.findall(expression.removeprefix(_GLOB_HEAD)):
        tail = "" if wild else tail + (quoted or plain)
    return tail
