# SPDX-License-Identifier: Apache-2.0
"""Correlations against an oracle that keeps every event and goes through all of them each time."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from monitor.alerts import Level, Response, Rule
from monitor.detection.correlate import Correlator
from monitor.detection.correlation import Correlation, Either, Every, Kind, Seen, Unless, holds
from monitor.fields import Fact

SPAN = 10
REFERENCES = ("a", "b", "c")


def rule(name):
    return Rule(id=name, title=name, level=Level.LOW, response=Response.LOG, category="file_access")


RULES = {name: rule(name) for name in REFERENCES}

times = st.lists(st.integers(0, 6), max_size=25).map(
    lambda gaps: [sum(gaps[: i + 1]) for i in range(len(gaps))]
)
matched = st.sets(st.sampled_from(range(len(REFERENCES))), min_size=1)
events = st.tuples(
    times, st.lists(matched, min_size=25, max_size=25), st.lists(st.integers(0, 4), min_size=25)
).map(lambda parts: list(zip(*parts, strict=False)))
formulas = st.recursive(
    st.sampled_from([Seen(n) for n in range(len(REFERENCES))]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda terms: Every(tuple(terms))),
        st.lists(inner, min_size=2, max_size=3).map(lambda terms: Either(tuple(terms))),
        inner.map(Unless),
    ),
    max_leaves=5,
).filter(lambda formula: not holds(formula, ()))
counts = st.integers(1, 5)


def fired(correlation, happened):
    """Indexes of the events with which it fires."""
    correlator = Correlator([correlation], {}, None)
    return [
        index
        for index, (at, seen, value) in enumerate(happened)
        if correlator.feed(
            at,
            {
                REFERENCES[n]: (
                    RULES[REFERENCES[n]],
                    Fact(category="file_access", fields={"Inode": value}),
                )
                for n in seen
            },
        )
    ]


def expected(condition, happened):
    """The same by the definition: true of the events of the timespan, and not told of already."""
    found, told_at = [], None
    for index, (at, _, _) in enumerate(happened):
        window = [event for event in happened[: index + 1] if event[0] >= at - SPAN]
        if not condition(window):
            told_at = None
        elif told_at is None or at - told_at > SPAN:
            found.append(index)
            told_at = at
    return found


def correlation(kind, least, references=REFERENCES, **more):
    return Correlation(
        rule=rule("it"),
        kind=kind,
        references=references,
        timespan_ns=SPAN,
        least=least,
        **more,
    )


@given(events, counts)
def test_event_count(happened, least):
    it = correlation(Kind.EVENT_COUNT, least)
    assert fired(it, happened) == expected(lambda window: len(window) >= least, happened)


@given(events, counts)
def test_value_count(happened, least):
    it = correlation(Kind.VALUE_COUNT, least, counted=("Inode",))
    assert fired(it, happened) == expected(
        lambda window: len({value for _, _, value in window}) >= least, happened
    )


@given(events, counts.filter(lambda n: n <= len(REFERENCES)))
def test_temporal(happened, least):
    it = correlation(Kind.TEMPORAL, least)
    assert fired(it, happened) == expected(
        lambda window: len(set().union(*(seen for _, seen, _ in window))) >= least, happened
    )


@given(events, formulas)
def test_temporal_with_a_condition(happened, formula):
    it = correlation(Kind.TEMPORAL, 1, formula=formula)
    assert fired(it, happened) == expected(
        lambda window: holds(formula, set().union(*(seen for _, seen, _ in window))), happened
    )


def in_order(window, length):
    return any(
        all(position in seen for position, (_, seen, _) in enumerate(chosen))
        for chosen in combinations(window, length)
    )


@given(events)
def test_temporal_ordered(happened):
    it = correlation(Kind.TEMPORAL_ORDERED, 3)
    assert fired(it, happened) == expected(lambda window: in_order(window, 3), happened)


@given(events, st.randoms())
def test_what_comes_late_neither_hides_an_order_nor_makes_one(happened, random):
    """Whatever the order of arrival within a second, it is found if and only if it was there."""
    it = correlation(Kind.TEMPORAL_ORDERED, 3)
    apart = [(at * 2 + n % 2, seen, value) for n, (at, seen, value) in enumerate(happened)]
    distinct = list({at: (at, seen, value) for at, seen, value in apart}.values())
    arriving = sorted(distinct, key=lambda _: random.random())
    inside = [one for one in distinct if one[0] >= max((e[0] for e in distinct), default=0) - SPAN]
    found = fired(it, arriving)
    if in_order(sorted(inside, key=lambda event: event[0]), 3):
        assert found
    if not any(
        in_order([e for e in sorted(distinct, key=lambda e: e[0]) if 0 <= e[0] - at <= SPAN], 3)
        for at, _, _ in distinct
    ):
        assert not found
