# SPDX-License-Identifier: Apache-2.0
"""A condition compiled to a Python function; it must not know Sigma or files.

The source is made of numbered locals and `repr()` of literals only, so that no text of a rule
can become code. What all terms need is asked one after the other: a field is fetched where it is
first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from monitor.detection import values
from monitor.detection.condition import REFERENCES, AllOf, AnyOf, Condition, Leaf, Match, Not
from monitor.detection.literals import literals, shortest
from monitor.detection.values import Get
from monitor.fields import LISTS

Test = Callable[[Get], bool]

_REFERENCE = {
    Match.SAME_AS: "{0} == {1}",
    Match.BEGINS_WITH: "({1} and {0}.startswith({1}))",
    Match.ENDS_WITH: "({1} and {0}.endswith({1}))",
    Match.HAS_IN_IT: "({1} and {1} in {0})",
}
"""The test of a field's lower-case text against another one's."""

_MERGED = {Match.EQUALS, Match.PREFIX, Match.SUFFIX, Match.CONTAINS, Match.NETWORK}
"""Leaves of one field that make a single test when any of them will do."""

_FEW = 16
"""Literals of an expression that are looked for before it."""

_COST = {Match.CONTAINS: 1, Match.NETWORK: 2, Match.GLOB: 3, Match.REGEX: 3}
"""Rank of a test's price; those not named cost 0. Cheap tests are asked first."""


def compiled(condition: Condition, *, many: bool = False) -> Test:
    """The function that tells whether the condition holds of a fact.

    A leaf is true of a list if it is true of any element. Lists are expected where `fields.LISTS`
    says so; elsewhere the function raises `values.ListFound`, unless it takes every field for one
    (`many`).
    """
    writer = _Writer(many=many)
    source = writer.function("test", condition)
    exec(compile(source, "<signature>", "exec"), writer.namespace)  # noqa: S102 -- our own source; rules only contribute literals
    found: Test = writer.namespace["test"]
    return found


class _Writer:
    """Source text in the making, and the objects it refers to by name.

    A field has a number: `v3` is its value, `s3` its text, `l3` that in lower case, `m3` all three
    of each of its elements.
    """

    def __init__(self, *, many: bool) -> None:
        single, elements = values.single, values.elements
        self.namespace: dict[str, Any] = {"single": single, "elements": elements}
        self._many = many
        self._slots: dict[str, int] = {}
        self._needed: dict[tuple[str, str], None] = {}
        self._fetched: set[tuple[str, str]] = set()

    def function(self, name: str, condition: Condition) -> str:
        """What must hold as a whole, term by term, the cheapest first."""
        lines = [f"def {name}(get):"]
        for term in sorted(_terms(condition), key=_cost):
            expression = self._expression(term)
            lines += [*self._fetches(), f" if not {expression}: return False"]
        return "\n".join([*lines, " return True", ""])

    def _fetches(self) -> list[str]:
        """Lines for the locals that are needed and not there yet."""
        lines: list[str] = []
        for kind, field in self._needed:
            slot = self._slots[field]
            if kind == "m":
                lines.append(f" m{slot} = elements(get({field!r}))")
            elif kind == "s":
                lines.append(f" v{slot} = get({field!r})")
                lines.append(f" s{slot} = v{slot} if v{slot}.__class__ is str else single(v{slot})")
            else:
                lines.append(f" l{slot} = s{slot}.lower()")
        self._fetched |= self._needed.keys()
        self._needed = {}
        return lines

    def _local(self, kind: str, field: str) -> str:
        """The name of one of a field's locals, which is noted as needed."""
        slot = self._slots.setdefault(field, len(self._slots))
        for needed in {"v": "s", "l": "sl"}.get(kind, kind):
            if (needed, field) not in self._fetched:
                self._needed[needed, field] = None
        return f"{kind}{slot}"

    def _is_list(self, field: str) -> bool:
        return self._many or field in LISTS

    def _expression(self, condition: Condition) -> str:
        match condition:
            case Leaf():
                return self._leaves([condition])
            case Not(term):
                return f"(not {self._expression(term)})"
            case AllOf(terms):
                parts = [self._expression(t) for t in sorted(terms, key=_cost)]
                return f"({' and '.join(parts)})"
            case AnyOf(terms):
                groups = sorted(_merge(terms), key=lambda group: _cost(group[0]))
                return f"({' or '.join(self._group(g) for g in groups)})"

    def _group(self, group: Sequence[Condition]) -> str:
        leaves = [term for term in group if isinstance(term, Leaf)]
        return self._leaves(leaves) if leaves else self._expression(group[0])

    def _leaves(self, leaves: Sequence[Leaf]) -> str:
        """One test for leaves that differ only in their value."""
        field = leaves[0].field
        if leaves[0].match in REFERENCES:
            return self._compared(leaves[0])
        if not self._is_list(field):
            return self._test(leaves, lambda kind: self._local(kind, field))
        several = self._local("m", field)
        if leaves[0].match is Match.NULL:
            return f"(not {several})"
        return f"any({self._test(leaves, str)} for v, s, l in {several})"

    def _compared(self, leaf: Leaf) -> str:
        """A test of two fields; empty text is at the beginning of nothing."""
        if any(map(self._is_list, leaf.fields)):
            mine, its = map(self._elements, leaf.fields)
            test = _REFERENCE[leaf.match].format("l", "o")
            return f"any({test} for _, _, l in {mine} for _, _, o in {its})"
        test = _REFERENCE[leaf.match].format(*(self._local("l", field) for field in leaf.fields))
        there = " and ".join(f"{self._local('v', field)} is not None" for field in leaf.fields)
        return f"({there} and {test})"

    def _elements(self, field: str) -> str:
        if self._is_list(field):
            return self._local("m", field)
        return f"elements({self._local('v', field)})"

    def _test(self, leaves: Sequence[Leaf], name: Callable[[str], str]) -> str:
        """A test of the field's value `v`, its text `s` or its lower-case text `l`, under their names."""
        leaf = leaves[0]
        match leaf.match:
            case Match.NULL:
                return f"({name('v')} is None)"
            case Match.NETWORK:
                blocks = sorted({str(x.value) for x in leaves})
                return f"{self._constant(values.network(blocks))}({name('s')})"
            case Match.GLOB | Match.REGEX:
                return self._expression_test(leaf, name)
            case Match.LESS | Match.AT_MOST | Match.MORE | Match.AT_LEAST:
                compare = values.comparison(leaf.match, float(leaf.value))
                return f"{self._constant(compare)}({name('v')})"
            case _:
                return _text_test(leaves, name("v"), name("s" if leaf.cased else "l"))

    def _expression_test(self, leaf: Leaf, name: Callable[[str], str]) -> str:
        """RE2 is asked last: to call it costs far more than tests of plain text."""
        expression, whole = str(leaf.value), leaf.match is Match.GLOB
        subject = name("l" if whole and not leaf.cased else "s")
        tests = [f"{name('v')} is not None", f"len({subject}) >= {shortest(expression)}"]
        if 0 < len(texts := literals(expression)) <= _FEW:
            there = (f"{text!r} in {name('l')}" for text in sorted(texts))
            tests.append(f"({' or '.join(there)})")
        matches = self._constant(values.pattern(expression, whole=whole))
        return f"({' and '.join(tests)} and {matches}({subject}))"

    def _constant(self, thing: object) -> str:
        name = f"k{len(self.namespace)}"
        self.namespace[name] = thing
        return name


def _text_test(leaves: Sequence[Leaf], value: str, subject: str) -> str:
    """A test that Python's own string operators do."""
    literals = sorted({str(x.value) if x.cased else str(x.value).lower() for x in leaves})
    match leaves[0].match:
        case Match.PREFIX:
            return f"{subject}.startswith({_one_or_tuple(literals)})"
        case Match.SUFFIX:
            return f"{subject}.endswith({_one_or_tuple(literals)})"
        case Match.CONTAINS:
            return f"({' or '.join(f'{literal!r} in {subject}' for literal in literals)})"
        case _:
            return _equals(value, subject, literals)


def _equals(value: str, subject: str, literals: list[str]) -> str:
    """An absent field reads as empty text too, but equals nothing."""
    if "" in literals:
        rest = [literal for literal in literals if literal]
        empty = f"({value} is not None and not {subject})"
        return f"({empty} or {_equals(value, subject, rest)})" if rest else empty
    if len(literals) == 1:
        return f"{subject} == {literals[0]!r}"
    return f"{subject} in {{{', '.join(map(repr, literals))}}}"  # a constant frozenset to CPython


def _one_or_tuple(literals: list[str]) -> str:
    return repr(literals[0]) if len(literals) == 1 else repr(tuple(literals))


def _terms(condition: Condition) -> Iterator[Condition]:
    """All that must hold."""
    if isinstance(condition, AllOf):
        for term in condition.terms:
            yield from _terms(term)
    else:
        yield condition


def _merge(terms: Iterable[Condition]) -> list[list[Condition]]:
    groups: dict[object, list[Condition]] = {}
    for term in terms:
        mergeable = isinstance(term, Leaf) and term.match in _MERGED
        key = (term.field, term.match, term.cased) if mergeable else id(term)  # type: ignore[union-attr] # a Leaf if mergeable
        groups.setdefault(key, []).append(term)
    return list(groups.values())


def _cost(condition: Condition) -> int:
    match condition:
        case Leaf(field=field, match=match):
            return _COST.get(match, 0) + (field in LISTS)
        case Not(term):
            return _cost(term)
        case AllOf(terms) | AnyOf(terms):
            return max((_cost(term) for term in terms), default=0)
