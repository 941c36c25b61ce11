# SPDX-License-Identifier: Apache-2.0
"""Correlations: what comes together fires, once, in kernel time, for one session, in bounded memory."""

import pytest
from ruletext import correlation, detecting, loaded, numbered_id

from monitor.detection import correlate, windows
from monitor.detection.engine import Engine
from monitor.fields import Fact

S = 1_000_000_000
READ, CONNECT, DELETE = (numbered_id(n) for n in (1, 2, 3))

RULES = [
    detecting({"TargetFilename": "/secret"}, "file_access", id=READ, name="read", title="Read"),
    detecting(
        {"DestinationPort": 443}, "network_connection", id=CONNECT, name="connect", title="Connect"
    ),
    detecting({"TargetFilename|startswith": "/d/"}, "file_delete", id=DELETE, name="delete"),
]


def read(session="s", **fields):
    return Fact(
        category="file_access",
        fields={"AgentSession": session, "TargetFilename": "/secret", **fields},
    )


def connect(session="s", **fields):
    fields = {"AgentSession": session, "DestinationPort": 443, **fields}
    return Fact(category="network_connection", fields=fields)


def delete(name="x", session="s", **fields):
    fields = {"AgentSession": session, "TargetFilename": f"/d/{name}", **fields}
    return Fact(category="file_delete", fields=fields)


class Monitor:
    """An engine with these correlations, to be fed with facts at seconds."""

    def __init__(self, directory, *correlations, rules=RULES):
        self.engine = Engine(loaded(directory, *rules, *correlations))

    def feed(self, at_s, *facts):
        """Names of what is told of one event, which may have several facts."""
        return [rule.name for rule, _ in self.matches(at_s, *facts).values()]

    def matches(self, at_s, *facts):
        matches = {}
        for fact in facts:
            for rule in self.engine.evaluate(fact):
                matches.setdefault(rule.id, (rule, fact))
        return self.engine.correlate(round(at_s * S), matches)

    def fires(self, *events):
        """The seconds at which the correlation under test is told of."""
        return [at for at, *facts in events if "both" in self.feed(at, *facts)]


def sequence(**changes):
    given = {"type": "temporal_ordered", "rules": ["read", "connect"], "timespan": "10s", **changes}
    return correlation(given, name="both", title="Both")


# Kinds ----------------------------------------------------------------------------------------


def test_an_order_is_one_of_kernel_time_within_the_timespan(tmp_path):
    assert Monitor(tmp_path, sequence()).fires((1, read()), (11, connect())) == [11]
    assert Monitor(tmp_path, sequence()).fires((1, read()), (11.1, connect())) == []
    assert Monitor(tmp_path, sequence()).fires((1, connect()), (2, read())) == []


def test_an_order_of_three_may_have_other_things_between(tmp_path):
    rules = sequence(rules=["read", "delete", "connect"])
    events = [(0, read()), (1, connect()), (2, delete()), (3, read()), (4, delete("y"))]
    assert Monitor(tmp_path, rules).fires(*events, (5, connect())) == [5]
    assert Monitor(tmp_path, rules).fires((0, read()), (1, connect()), (2, delete())) == []


def test_an_order_may_ask_for_the_same_rule_twice_and_one_event_is_not_two(tmp_path):
    rules = sequence(rules=["read", "read"])
    assert Monitor(tmp_path, rules).fires((1, read()), (2, read())) == [2]
    assert Monitor(tmp_path, rules).fires((1, read())) == []


def test_together_is_any_order(tmp_path):
    together = sequence(type="temporal")
    assert Monitor(tmp_path, together).fires((1, connect()), (11, read())) == [11]
    assert Monitor(tmp_path, together).fires((1, connect()), (11.1, read())) == []


def test_together_may_ask_for_some_of_them(tmp_path):
    some = sequence(type="temporal", rules=["read", "connect", "delete"], condition={"gte": 2})
    assert Monitor(tmp_path, some).fires((1, delete()), (2, delete()), (3, read())) == [3]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("read and connect", [3]),
        ("read and (connect or delete)", [2]),
        ("connect and not delete", []),
        ("read and not connect", [1]),
    ],
)
def test_a_condition_may_combine_rules(tmp_path, condition, expected):
    together = sequence(type="temporal", rules=None, condition=condition)
    monitor = Monitor(tmp_path, together)
    assert monitor.fires((1, read()), (2, delete()), (3, connect())) == expected


def test_events_are_counted_within_the_timespan(tmp_path):
    rate = sequence(type="event_count", rules=["delete"], condition={"gte": 3})
    monitor = Monitor(tmp_path, rate)
    times = [0, 5, 10.1, 15, 15.1, 40, 41, 42]
    assert monitor.fires(*((at, delete()) for at in times)) == [15, 42]


def test_more_than_is_one_more(tmp_path):
    rate = sequence(type="event_count", rules=["delete"], condition={"gt": 2})
    assert Monitor(tmp_path, rate).fires(*((at, delete()) for at in range(4))) == [2]


def test_events_of_several_rules_are_counted_together(tmp_path):
    rate = sequence(type="event_count", rules=["delete", "read"], condition={"gte": 2})
    assert Monitor(tmp_path, rate).fires((1, delete()), (2, read())) == [2]


def test_values_are_counted_once_each(tmp_path):
    values = sequence(
        type="value_count", rules=["delete"], condition={"gte": 3, "field": "TargetFilename"}
    )
    names = ["a", "b", "a", "b", "c"]
    events = [(at, delete(name)) for at, name in enumerate(names)]
    assert Monitor(tmp_path, values).fires(*events) == [4]
    late = [(0, delete("a")), (1, delete("b")), (10.5, delete("c")), (10.6, delete("a"))]
    assert Monitor(tmp_path, values).fires(*late) == [10.6]


def test_an_event_without_the_value_is_not_counted(tmp_path):
    values = sequence(type="value_count", rules=["delete"], condition={"gte": 1, "field": "Script"})
    assert Monitor(tmp_path, values).fires((0, delete()), (1, delete(Script="/s"))) == [1]


# What an event is -----------------------------------------------------------------------------


def test_an_event_with_several_spellings_counts_once(tmp_path):
    rate = sequence(type="event_count", rules=["delete"], condition={"gte": 2})
    monitor = Monitor(tmp_path, rate)
    assert monitor.fires((0, delete("x"), delete("y")), (1, delete())) == [1]


def test_a_session_does_not_count_for_another(tmp_path):
    monitor = Monitor(tmp_path, sequence())
    assert monitor.fires((1, read("a")), (2, connect("b"))) == []
    assert monitor.fires((3, connect("a"))) == [3]


def test_groups_are_apart_and_an_alias_names_a_field_differently(tmp_path):
    grouped = sequence(**{"group-by": ["Image"]})
    monitor = Monitor(tmp_path, grouped)
    assert monitor.fires((1, read(Image="/a")), (2, connect(Image="/b"))) == []
    assert monitor.fires((3, connect(Image="/a"))) == [3]
    aliases = {"who": {"read": "Image", "connect": "ParentImage"}}
    aliased = Monitor(tmp_path, sequence(**{"group-by": ["who"], "aliases": aliases}))
    assert aliased.fires((1, read(Image="/a")), (2, connect(Image="/a", ParentImage="/b"))) == []
    assert aliased.fires((3, connect(Image="/b", ParentImage="/a"))) == [3]


@pytest.mark.parametrize("kind", ["temporal", "temporal_ordered"])
def test_a_late_event_counts_at_its_own_time(tmp_path, kind):
    monitor = Monitor(tmp_path, sequence(type=kind))
    assert monitor.feed(2, connect()) == []
    assert "both" in monitor.feed(1.5, read())


def test_a_late_event_does_not_fake_an_order(tmp_path):
    assert Monitor(tmp_path, sequence()).fires((2, read()), (1.5, connect())) == []


def test_an_event_that_is_later_than_any_ring_does_not_fake_an_order_either(tmp_path):
    monitor = Monitor(tmp_path, sequence(rules=["read", "delete", "connect"], timespan="20s"))
    assert monitor.fires((1, read()), (5, delete()), (10, read()), (3, connect())) == []


def test_a_late_event_does_not_make_a_storm(tmp_path):
    rate = sequence(type="event_count", rules=["delete"], condition={"gte": 2}, timespan="3s")
    monitor = Monitor(tmp_path, rate)
    assert monitor.fires(*((at, delete()) for at in (10, 11, 5, 12))) == [11]


def test_a_late_event_is_counted_among_its_neighbours(tmp_path):
    rate = sequence(type="event_count", rules=["delete"], condition={"gte": 3}, timespan="1s")
    monitor = Monitor(tmp_path, rate)
    assert monitor.fires((1, delete()), (2, delete()), (2.9, delete())) == []
    assert monitor.fires((1.6, delete())) == [1.6]
    assert monitor.fires((11, delete()), (12.5, delete()), (12.6, delete()), (11.4, delete())) == []


# Telling --------------------------------------------------------------------------------------


def test_what_goes_on_is_told_once_a_timespan(tmp_path):
    rate = sequence(type="event_count", rules=["delete"], condition={"gte": 2})
    monitor = Monitor(tmp_path, rate)
    assert monitor.fires(*((at, delete()) for at in range(30))) == [1, 12, 23]


def test_what_was_over_is_told_again_at_once(tmp_path):
    rate = sequence(type="event_count", rules=["delete"], condition={"gte": 2}, timespan="3s")
    monitor = Monitor(tmp_path, rate)
    assert monitor.fires(*((at, delete()) for at in (0, 1, 5, 6))) == [1, 6]


def test_a_rule_that_is_referred_to_is_silent_by_itself(tmp_path):
    monitor = Monitor(tmp_path, sequence())
    assert monitor.feed(1, read()) == []
    assert monitor.feed(2, delete()) == ["delete"]
    assert monitor.feed(3, connect()) == ["both"]


@pytest.mark.parametrize("place", ["inside", "beside"])
def test_with_generate_it_speaks_too(tmp_path, place):
    rule = sequence(generate=True) if place == "inside" else {**sequence(), "generate": True}
    monitor = Monitor(tmp_path, rule)
    assert monitor.feed(1, read()) == ["read"]
    assert monitor.feed(3, connect()) == ["connect", "both"]


def test_one_that_generates_is_enough_for_a_rule_to_speak(tmp_path):
    given = {"type": "event_count", "rules": ["read"], "timespan": "10s", "condition": {"gte": 2}}
    silent = correlation(given, id=numbered_id(9), name="twice", title="Twice")
    monitor = Monitor(tmp_path, sequence(generate=True), silent)
    assert monitor.feed(1, read()) == ["read"]


@pytest.mark.parametrize("response", ["deny", "ask", "freeze", "kill"])
def test_a_rule_that_stops_or_refuses_acts_whatever_refers_to_it(tmp_path, response):
    rules = [{**RULES[0], "response": response}, *RULES[1:]]
    assert Monitor(tmp_path, sequence(), rules=rules).feed(1, read()) == ["read"]


def test_an_alert_has_the_last_event_and_what_went_before(tmp_path):
    monitor = Monitor(tmp_path, sequence())
    monitor.feed(1, read())
    [(_, fact)] = monitor.matches(2, connect()).values()
    assert fact.category == "network_connection"
    assert fact.fields["DestinationPort"] == 443
    assert fact.fields["Correlation"] == [
        {"rule": "Read", "ktime_ns": S},
        {"rule": "Connect", "ktime_ns": 2 * S},
    ]


def test_an_alert_of_a_count_says_how_many_since_when(tmp_path):
    rate = sequence(type="event_count", rules=["delete"], condition={"gte": 2})
    monitor = Monitor(tmp_path, rate)
    monitor.feed(1, delete())
    [(_, fact)] = monitor.matches(2, delete()).values()
    assert fact.fields["Correlation"] == [{"count": 2, "first_ktime_ns": S}]


def test_correlations_build_on_correlations(tmp_path):
    twice = {"type": "event_count", "rules": ["both"], "timespan": "1m", "condition": {"gte": 2}}
    top = correlation(twice, id=numbered_id(7), name="twice")
    monitor = Monitor(tmp_path, top, sequence(timespan="2s"))
    assert monitor.feed(1, read()) == monitor.feed(2, connect()) == []
    assert monitor.feed(10, read()) == []
    assert monitor.feed(11, connect()) == ["twice"]


def test_a_correlation_that_breaks_is_counted_and_loses_no_match(tmp_path, monkeypatch):
    rules = [{**RULES[0], "response": "freeze"}, *RULES[1:]]
    monitor = Monitor(tmp_path, sequence(), rules=rules)
    monkeypatch.setattr(correlate, "window", None)
    assert monitor.feed(1, read()) == ["read"]
    assert monitor.engine.errors == {"correlations": 1}


# Bounds ---------------------------------------------------------------------------------------


def test_an_agent_with_many_groups_pushes_out_only_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(correlate, "GROUPS", 3)
    monitor = Monitor(tmp_path, sequence(**{"group-by": ["Image"]}))
    monitor.feed(1, read("other", Image="/x"))
    for number in range(10):
        monitor.feed(2, read(Image=f"/{number}"))
    assert monitor.engine.evicted == 7
    assert monitor.fires((3, connect(Image="/0"))) == []
    assert monitor.fires((3, connect("other", Image="/x"))) == [3]
    assert monitor.engine.evicted == 8


def test_a_burst_is_not_remembered_whole_for_the_sake_of_an_order():
    order = windows.InOrder(2, 10 * S)
    for number in range(1000):
        order.add(S + number, [0], 0)
    assert len(order._recent) == windows._RECENT
    assert order.add(S + 1000, [1], 0)


def test_of_its_own_groups_the_one_that_was_quiet_longest_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(correlate, "GROUPS", 2)
    monitor = Monitor(tmp_path, sequence(**{"group-by": ["Image"]}))
    for image in ("/a", "/b", "/a", "/c"):
        monitor.feed(1, read(Image=image))
    assert monitor.fires((2, connect(Image="/a"))) == [2]


def test_sessions_that_were_quiet_longest_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(correlate, "SESSIONS", 2)
    monitor = Monitor(tmp_path, sequence())
    for session in "abac":
        monitor.feed(1, read(session))
    assert monitor.fires((2, connect("b"))) == []
    assert monitor.engine.evicted == 2


def test_a_reload_keeps_what_the_same_correlations_remember(tmp_path):
    monitor = Monitor(tmp_path, sequence())
    monitor.feed(1, read())
    monitor.engine.replace(loaded(tmp_path, *RULES[:2], sequence()))
    assert monitor.fires((2, connect())) == [2]
    monitor.feed(20, read())
    monitor.engine.replace(loaded(tmp_path, *RULES[:2], sequence(timespan="9s")))
    assert monitor.fires((21, connect())) == []
