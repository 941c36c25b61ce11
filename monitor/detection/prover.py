# SPDX-License-Identifier: Apache-2.0
"""Whether an event can satisfy a condition, by z3; the only module that imports it.

A comparison is a free boolean to z3. What `implied` knows of two of one field is told it as soon
as an answer breaks it, so that a question sees the few facts that it needs of the millions there
are. Expressions, and fields compared with each other, stay free: `no` is a proof, `yes` is not.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from monitor.detection.condition import AllOf, AnyOf, Condition, Leaf, Not
from monitor.detection.fold import leaves
from monitor.detection.implied import implied
from monitor.errors import RequirementError

try:
    import z3
except ImportError:  # it weighs 100 MB, and only this one command wants it
    z3 = None


class Prover:
    """Answers questions about the rules of one category; what it learns holds for all of them."""

    def __init__(self, limit_s: float) -> None:
        if z3 is None:
            mend = "pip install z3-solver"
            raise RequirementError("the prover z3 is not installed", mend=mend)
        self._limit_s = limit_s
        self._solver = z3.Solver()
        self._names: dict[Leaf, Any] = {}
        self._facts: dict[str, tuple[Leaf, Leaf]] = {}
        self.core: tuple[tuple[Leaf, Leaf], ...] = ()
        """After a `no`: the pairs of comparisons that made it so."""

    def possible(self, condition: Condition) -> bool | None:
        """No (proved), yes so far as is known, or None: not decided within the limit."""
        question = z3.FreshBool("q")
        self._solver.add(z3.Implies(question, self._expression(condition)))
        fields: dict[str, list[Leaf]] = defaultdict(list)
        for leaf in dict.fromkeys(leaves(condition)):
            fields[leaf.field].append(leaf)
        end = time.monotonic() + self._limit_s
        while (left_s := end - time.monotonic()) > 0:
            self._solver.set("timeout", max(1, int(left_s * 1000)))
            answer = self._solver.check(question)
            if answer == z3.unsat:
                core = [str(name) for name in self._solver.unsat_core()]
                self.core = tuple(self._facts[name] for name in core if name in self._facts)
                return False
            if answer != z3.sat:
                return None
            broken = list(self._broken(self._solver.model(), fields))
            if not broken:
                return True
            for known, other in broken:
                self._learn(known, other)
        return None

    def _broken(self, model: Any, fields: dict[str, list[Leaf]]) -> Iterator[tuple[Leaf, Leaf]]:  # noqa: ANN401 -- z3's
        for group in fields.values():
            true = {leaf for leaf in group if z3.is_true(model.eval(self._names[leaf]))}
            for known in true:
                for other in group:
                    found = implied(known, other)
                    if found is not None and found is not (other in true):
                        yield known, other

    def _learn(self, known: Leaf, other: Leaf) -> None:
        its = self._names[other]
        follows = its if implied(known, other) else z3.Not(its)
        name = f"f{len(self._facts)}"
        self._facts[name] = (known, other)
        self._solver.assert_and_track(z3.Implies(self._names[known], follows), name)

    def _expression(self, condition: Condition) -> Any:  # noqa: ANN401 -- z3's
        match condition:
            case Leaf():
                return self._names.setdefault(condition, z3.Bool(f"l{len(self._names)}"))
            case Not(term):
                return z3.Not(self._expression(term))
            case AllOf(terms):
                return z3.And([self._expression(term) for term in terms])
            case AnyOf(terms):
                return z3.Or([self._expression(term) for term in terms])
