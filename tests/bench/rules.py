# SPDX-License-Identifier: Apache-2.0
"""How many facts a second the rules take, on the recordings of tests/recordings."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msgspec.structs import replace as changed

from monitor.cli.replay import engine_of
from monitor.detection.condition import AllOf, AnyOf, Condition, Leaf, Match, Not
from monitor.detection.engine import Engine
from monitor.detection.ruleset import RuleSet
from monitor.fields import Fact
from monitor.recording.lines import read
from tests.bench.figures import Figures

PROJECT = Path(__file__).parents[2]
RECORDINGS = PROJECT / "tests" / "recordings"
RULES = PROJECT / "rules"
COMMUNITY = "SIGMAHQ"
"""Environment: a checkout of the SigmaHQ repository, to be measured beside our own rules."""
_TIMES = 7
_EXECS = 20_000
_MORE = 10


def measure(scratch: Path, figures: Figures) -> None:
    """facts a second through all rules, and what ten times as many rules cost"""
    del scratch
    community = [Path(os.environ[COMMUNITY])] if os.environ.get(COMMUNITY) else []
    engine = engine_of([RULES, *community])
    mix = [fact for file in sorted(RECORDINGS.glob("*.jsonl")) for fact in _facts(file)]
    execs = _unlike([fact for fact in mix if fact.category == "process_creation"])
    bigger = Engine(_tenfold(engine))
    figures["rules"] = {"value": len(engine.ruleset.signatures)}
    for name, facts in (("mix", mix), ("exec", execs)):
        rate = _rate(engine, facts)
        figures[f"rules_{name}_per_s"] = {"value": round(rate), "n": len(facts)}
        ratio = rate / _rate(bigger, facts)
        figures[f"rules_{name}_tenfold_ratio"] = {"value": round(ratio, 2), "n": len(facts)}


def _facts(file: Path) -> list[Fact]:
    _, happenings = read(file)
    return [fact for happening in happenings for fact in happening.facts]


def _unlike(execs: Sequence[Fact]) -> list[Fact]:
    """Many, of which no two have the same command line: nothing may be remembered."""
    found = []
    for number in range(_EXECS):
        fields = execs[number % len(execs)].fields
        own = {"CommandLine": f"{fields['CommandLine']} {number}"}
        found.append(Fact(category="process_creation", fields={**fields, **own}))
    return found


def _rate(engine: Engine, facts: Sequence[Fact]) -> float:
    """Facts a second of processor time, the best of seven; none has what others remembered."""
    spent_s = []
    for _ in range(_TIMES):
        engine.forget()  # what it remembers of texts, too
        start = time.process_time()
        for fact in facts:
            engine.evaluate(fact)
        spent_s.append(time.process_time() - start)
    return len(facts) / min(spent_s)


def _tenfold(engine: Engine) -> RuleSet:
    """The same rules and nine copies of each, that look for other words in the same places."""
    ruleset = engine.ruleset
    copies = [
        replace(
            signature,
            rule=changed(signature.rule, id=f"{signature.rule.id}-{number}"),
            condition=_other_words(signature.condition, f"-{number}-"),
        )
        for signature in ruleset.signatures
        for number in range(1, _MORE)
    ]
    return replace(ruleset, signatures=(*ruleset.signatures, *copies))


def _other_words(condition: Condition, mark: str) -> Condition:
    match condition:
        case Leaf(match=Match.SUFFIX):
            return replace(condition, value=f"{mark}{condition.value}")
        case Leaf(match=Match.EQUALS | Match.PREFIX | Match.CONTAINS):
            return replace(condition, value=f"{condition.value}{mark}")
        case Leaf():
            return condition
        case Not(term):
            return Not(_other_words(term, mark))
        case AllOf(terms):
            return AllOf(tuple(_other_words(term, mark) for term in terms))
        case AnyOf(terms):
            return AnyOf(tuple(_other_words(term, mark) for term in terms))
