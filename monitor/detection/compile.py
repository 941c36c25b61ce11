# SPDX-License-Identifier: Apache-2.0
"""Signatures of one category compiled to one Python function; it must not know Sigma or files.

The source is made of numbered locals and `repr()` of literals only, so that no text of a rule
can become code. A field is fetched and lower-cased once for all rules of the category.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from monitor.alerts import Rule
from monitor.detection import values
from monitor.detection.condition import REFERENCES, AllOf, AnyOf, Condition, Leaf, Match, Not
from monitor.detection.prefilter import needles, scanner
from monitor.detection.ruleset import Signature
from monitor.fields import LISTS

_REFERENCE = {
    Match.SAME_AS: "{0} == {1}",
    Match.BEGINS_WITH: "({1} and {0}.startswith({1}))",
    Match.ENDS_WITH: "({1} and {0}.endswith({1}))",
    Match.HAS_IN_IT: "({1} and {1} in {0})",
}
"""The test of a field's lower-case text against another one's."""

Program = Callable[[Mapping[str, Any], Callable[[str], None]], list[Rule]]
"""(fields of a fact, told the id of a rule whose evaluation raised) -> the rules that match."""

_MERGED = {Match.EQUALS, Match.PREFIX, Match.SUFFIX, Match.CONTAINS, Match.NETWORK}
"""Leaves of one field that make a single test when any of them will do."""

_GROUP = 8
"""Signatures whose bits are looked at together: most facts have none of them set."""

_COST = {Match.CONTAINS: 1, Match.NETWORK: 2, Match.GLOB: 3, Match.REGEX: 3}
"""Rank of a test's price; those not named cost 0. Cheap tests are asked first."""


def build(signatures: Sequence[Signature]) -> Program:
    """The function that evaluates these signatures, in their order, on the fields of one fact."""
    writer = _Writer()
    source = writer.function("many", signatures) + writer.filtered("evaluate", signatures)
    code = compile(source, "<signatures>", "exec")
    exec(code, writer.namespace)  # noqa: S102 -- our own source; rules only contribute literals
    program: Program = writer.namespace["evaluate"]
    return program


class _Writer:
    """Source text in the making, and the objects it refers to by name.

    A leaf is true of a list if it is true of any element. `evaluate` expects one where `fields.LISTS`
    says so. It hands a fact with a list elsewhere over to `many`, which takes every field for one.
    """

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"text": values.text, "elements": values.elements}
        self._slots: dict[str, int] = {}

    def function(self, name: str, signatures: Sequence[Signature]) -> str:
        """All signatures, one after the other, with every field taken for a list."""
        body = [line for one in signatures for line in self._signature(one, many=True)]
        lines = [f"def {name}(fields, failed):", " get = fields.get", " hits = []"]
        for field, slot in self._slots.items():
            lines += _fetch_many(field, slot)
        return "\n".join([*lines, *body, " return hits", ""])

    def filtered(self, name: str, signatures: Sequence[Signature]) -> str:
        """Those signatures of which the prefilter found a literal."""
        wanted = [needles(signature.condition) for signature in signatures]
        needed = (needle for sets in wanted for some in sets for needle in sorted(some))
        searched = dict.fromkeys(field for field, _ in needed)
        slots = {field: self._slots.setdefault(field, len(self._slots)) for field in searched}
        body: list[str] = []
        for start in range(0, len(signatures), _GROUP):
            group = range(start, min(start + _GROUP, len(signatures)))
            body.append(f" if found & {sum(1 << number for number in group)}:")
            for number in group:
                body.append(f"  if found & {1 << number}:")
                body += [f"  {line}" for line in self._signature(signatures[number], many=False)]
        lines = [f"def {name}(fields, failed):", " get = fields.get"]
        for field, slot in slots.items():
            lines += _fetch(field, slot)
        # A needle of one field that is found in another, or across two, costs a look and no more.
        text = " + '\\n' + ".join(f"l{slot}" for slot in slots.values()) or "''"
        lines += [f" found = {self._constant(scanner(wanted))}({text})", " if not found: return []"]
        lines.append(" hits = []")
        for field, slot in self._slots.items():
            if field not in slots:
                lines += _fetch_many(field, slot) if field in LISTS else _fetch(field, slot)
        return "\n".join([*lines, *body, " return hits", ""])

    def _signature(self, signature: Signature, *, many: bool) -> list[str]:
        expression = self._expression(signature.condition, many=many)
        rule, rule_id = self._constant(signature.rule), signature.rule.id
        return [
            " try:",
            f"  if {expression}: hits.append({rule})",
            f" except Exception: failed({rule_id!r})",
        ]

    def _expression(self, condition: Condition, *, many: bool) -> str:
        match condition:
            case Leaf():
                return self._leaves([condition], many=many)
            case Not(term):
                return f"(not {self._expression(term, many=many)})"
            case AllOf(terms):
                parts = [self._expression(t, many=many) for t in sorted(terms, key=_cost)]
                return f"({' and '.join(parts)})"
            case AnyOf(terms):
                groups = sorted(_merge(terms), key=lambda group: _cost(group[0]))
                return f"({' or '.join(self._group(g, many=many) for g in groups)})"

    def _group(self, group: Sequence[Condition], *, many: bool) -> str:
        leaves = [term for term in group if isinstance(term, Leaf)]
        return self._leaves(leaves, many=many) if leaves else self._expression(group[0], many=many)

    def _leaves(self, leaves: Sequence[Leaf], *, many: bool) -> str:
        """One test for leaves that differ only in their value."""
        slot = self._slot(leaves[0].field)
        if leaves[0].match in REFERENCES:
            return self._compared(leaves[0], many=many)
        if not many and leaves[0].field not in LISTS:
            return self._test(leaves, f"v{slot}", f"s{slot}", f"l{slot}")
        if leaves[0].match is Match.NULL:
            return f"(not m{slot})"
        return f"any({self._test(leaves, 'v', 's', 'l')} for v, s, l in m{slot})"

    def _slot(self, field: str) -> int:
        return self._slots.setdefault(field, len(self._slots))

    def _compared(self, leaf: Leaf, *, many: bool) -> str:
        """A test of two fields; empty text is at the beginning of nothing."""
        slots = [(self._slot(field), many or field in LISTS) for field in leaf.fields]
        if any(is_list for _, is_list in slots):
            mine, its = (f"m{s}" if is_list else f"elements(v{s})" for s, is_list in slots)
            test = _REFERENCE[leaf.match].format("l", "o")
            return f"any({test} for _, _, l in {mine} for _, _, o in {its})"
        mine, its = (str(slot) for slot, _ in slots)
        test = _REFERENCE[leaf.match].format(f"l{mine}", f"l{its}")
        return f"(v{mine} is not None and v{its} is not None and {test})"

    def _test(self, leaves: Sequence[Leaf], value: str, plain: str, lower: str) -> str:
        """A test over the names of the field's value, its text and its lower-case text."""
        leaf = leaves[0]
        match leaf.match:
            case Match.NULL:
                return f"({value} is None)"
            case Match.NETWORK:
                blocks = sorted({str(x.value) for x in leaves})
                return f"{self._constant(values.network(blocks))}({plain})"
            case Match.GLOB | Match.REGEX as how:
                test = values.pattern(str(leaf.value), whole=how is Match.GLOB)
                subject = lower if how is Match.GLOB and not leaf.cased else plain
                return f"({value} is not None and {self._constant(test)}({subject}))"
            case Match.LESS | Match.AT_MOST | Match.MORE | Match.AT_LEAST:
                compare = values.comparison(leaf.match, float(leaf.value))
                return f"{self._constant(compare)}({value})"
            case _:
                return _text_test(leaves, value, plain if leaf.cased else lower)

    def _constant(self, thing: object) -> str:
        name = f"k{len(self.namespace)}"
        self.namespace[name] = thing
        return name


def _fetch(field: str, slot: int) -> list[str]:
    return [
        f" v{slot} = s{slot} = get({field!r})",
        f" if v{slot}.__class__ is not str:",
        f"  if v{slot}.__class__ in (list, tuple): return many(fields, failed)",
        f"  s{slot} = text(v{slot})",
        f" l{slot} = s{slot}.lower()",
    ]


def _fetch_many(field: str, slot: int) -> list[str]:
    return [f" m{slot} = elements(get({field!r}))"]


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


def _merge(terms: Iterable[Condition]) -> list[list[Condition]]:
    groups: dict[object, list[Condition]] = {}
    for term in terms:
        mergeable = isinstance(term, Leaf) and term.match in _MERGED
        key = (term.field, term.match, term.cased) if mergeable else id(term)  # type: ignore[union-attr] # a Leaf if mergeable
        groups.setdefault(key, []).append(term)
    return list(groups.values())


def _cost(condition: Condition) -> int:
    match condition:
        case Leaf(match=match):
            return _COST.get(match, 0)
        case Not(term):
            return _cost(term)
        case AllOf(terms) | AnyOf(terms):
            return max(_cost(term) for term in terms)
