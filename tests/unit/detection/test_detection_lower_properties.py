# SPDX-License-Identifier: Apache-2.0
"""No match without a watch that holds it, and no certain watch without a match: on random rules."""

from __future__ import annotations

import itertools

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from watching import found, means, reached

from monitor.alerts import Level, Response, Rule
from monitor.detection.condition import AllOf, AnyOf, Leaf, Match, Not
from monitor.detection.engine import Engine
from monitor.detection.lower import lower
from monitor.detection.ruleset import RuleSet, Signature
from monitor.fields import Fact
from monitor.lowered import Part

PATHS = ["/1", "/a/b", "/b/c", "/a", "/a/b/c", "/A/b", "/a/b.c", "/x/a/b", "/a/1", "/bc"]
IMAGES = ["/p", "/q", "/r"]
COVERED = {Part.WHOLE, Part.PART}
OPERATIONS = ["open", "create", "truncate", "link", "symlink", "chmod"]
RUNS = settings(deadline=None, max_examples=250, suppress_health_check=list(HealthCheck))


CASED = st.just(value=True)


def leaf(fields, matches, values, *, cased=CASED):
    return st.builds(Leaf, st.sampled_from(fields), st.sampled_from(matches), values, cased)


def path_leaves(*fields):
    mostly = st.sampled_from([True, True, True, False])
    return st.one_of(
        leaf(fields, [Match.EQUALS], st.sampled_from(PATHS[:3]), cased=mostly),
        leaf(fields, [Match.PREFIX], st.sampled_from(["/a/", "/", "/a/b", "/1/", "/x/a/"])),
        leaf(fields, [Match.SUFFIX], st.sampled_from(["/b", "/a/b", "/b/c", "b/c", ".c", "/1"])),
        leaf(fields, [Match.CONTAINS], st.sampled_from(["/a/", "b", "/b/"])),
        leaf(
            fields, [Match.GLOB], st.sampled_from([r"(?s).*\/a.*\/b", r"(?s)\/a.*\/c", "(?s).*b."])
        ),
        leaf(fields, [Match.NULL], st.just("")),
    )


images = st.one_of(
    leaf(["Image"], [Match.EQUALS], st.sampled_from(IMAGES), cased=st.booleans()),
    leaf(["Image"], [Match.SUFFIX], st.sampled_from(["q", "/r"])),
)
forgiving = st.one_of(
    st.lists(images, min_size=1, max_size=3).map(lambda found: Not(AnyOf(tuple(found)))),
    st.lists(images, min_size=1, max_size=3).map(lambda found: AnyOf(tuple(map(Not, found)))),
)
written = st.sampled_from(["true", "false"]).map(
    lambda value: Leaf("WrittenBySession", Match.EQUALS, value)
)
operation = leaf(["Operation"], [Match.EQUALS], st.sampled_from(OPERATIONS), cased=st.booleans())


def conditions(leaves):
    def deeper(inner):
        terms = st.lists(inner, min_size=1, max_size=3).map(tuple)
        return st.one_of(
            st.builds(AllOf, terms),
            st.builds(AnyOf, terms),
            st.builds(Not, inner),
            st.builds(lambda a, b: AllOf((a, b)), inner, forgiving),
        )

    # What real rules look like, so that random ones do not bury it.
    some = st.lists(leaves, min_size=1, max_size=2).map(lambda found: AnyOf(tuple(found)))
    but = st.builds(lambda a, b: AllOf((a, Not(b))), leaves, leaves)
    forgives = st.builds(lambda a, b: AllOf((a, b)), some, forgiving)
    return st.one_of(but, forgives, st.recursive(leaves, deeper, max_leaves=6))


def signatures(category, leaves, *, only=()):
    """A few rules; each asks for all of `only` besides."""

    def build(found):
        return [
            Signature(_rule(number, category), AllOf((*only, one)))
            for number, one in enumerate(found)
        ]

    return st.lists(conditions(leaves), min_size=1, max_size=3).map(build)


def _rule(number, category):
    return Rule(
        id=f"r{number}", title="", level=Level.HIGH, response=Response.FREEZE, category=category
    )


def every(**fields):
    """All facts there are with these values of the fields."""
    return [
        dict(zip(fields, chosen, strict=True)) for chosen in itertools.product(*fields.values())
    ]


PROGRAMS = [*IMAGES, "/other"]
READS = every(TargetFilename=PATHS, Image=PROGRAMS, WrittenBySession=[False, True])
RENAMES = every(TargetFilename=PATHS, SourceFilename=PATHS, Image=PROGRAMS)
WRITES = [
    *every(
        Operation=["open", "create"],
        TargetFilename=PATHS,
        Image=PROGRAMS,
        WrittenBySession=[False, True],
    ),
    *every(
        Operation=["truncate", "chmod"],
        TargetFilename=PATHS,
        Image=PROGRAMS,
        WrittenBySession=[False],
    ),
    *every(
        Operation=["link", "symlink"],
        TargetFilename=PATHS,
        SourceFilename=PATHS,
        Image=["/p", "/other"],
        WrittenBySession=[False],
    ),
]


def judged(rules, facts, category):
    """Each fact with the ids of the rules that it matches, by the engine."""
    engine = Engine(RuleSet(tuple(rules)))
    for fields in facts:
        fact = Fact(category=category, fields=fields)
        yield fact, {rule.id for rule in engine.evaluate(fact)}


def agree(rules, facts, category):
    lowered = lower(RuleSet(tuple(rules)))
    for fact, matched in judged(rules, facts, category):
        held = {rule for watch in found(lowered.watches, fact) for rule in watch.rules}
        for rule in matched:
            if lowered.rules[rule].part in COVERED:
                event("a match that is held")
                assert rule in held
                assert found(lowered.rules[rule].watches, fact)
        sure = found(lowered.watches, fact, certain=True)
        for watch in sure:
            event("a certain watch that finds")
            assert watch.rules & matched
        for rule, one in lowered.rules.items():
            if one.part is Part.WHOLE:
                refused = any(rule in watch.rules for watch in sure)
                assert refused or rule not in matched
                assert bool(found(one.watches, fact, certain=True)) == (rule in matched)


@RUNS
@given(
    signatures(
        "file_event",
        st.one_of(path_leaves("TargetFilename", "SourceFilename"), images, written, operation),
        only=(AnyOf(tuple(Leaf("Operation", Match.EQUALS, name) for name in OPERATIONS)),),
    )
)
def test_writing_is_held_if_it_matches_and_matches_if_it_is_certain(rules):
    agree(rules, WRITES, "file_event")


@RUNS
@given(signatures("file_access", st.one_of(path_leaves("TargetFilename"), images, written)))
def test_reading_is_held_if_it_matches_and_matches_if_it_is_certain(rules):
    agree(rules, READS, "file_access")


@RUNS
@given(
    signatures("file_rename", st.one_of(path_leaves("TargetFilename", "SourceFilename"), images))
)
def test_renaming_is_held_if_it_matches_and_matches_if_it_is_certain(rules):
    agree(rules, RENAMES, "file_rename")


@RUNS
@given(signatures("process_creation", path_leaves("Image")))
def test_a_program_is_held_if_it_matches_and_matches_if_it_is_certain(rules):
    agree(rules, every(Image=PATHS), "process_creation")


blocks = ["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0", "2001:db8::/32", "::ffff:0:0/96"]
address_leaves = st.one_of(
    leaf(["DestinationIp"], [Match.NETWORK], st.sampled_from(blocks)),
    leaf(
        ["DestinationIp"],
        [Match.EQUALS],
        st.sampled_from(["10.1.2.3", "2001:DB8::1", "2001:db8::1", "x"]),
        cased=st.booleans(),
    ),
    leaf(["DestinationPort"], [Match.EQUALS], st.sampled_from(["443", "22", "0", "x", "022"])),
    leaf(["Protocol"], [Match.EQUALS], st.sampled_from(["tcp", "unix"])),
    leaf(["DestinationPort"], [Match.MORE], st.just(100.0)),
    leaf(["Tainted"], [Match.EQUALS, Match.CONTAINS, Match.NULL], st.sampled_from(["a", "b"])),
)
CONNECTIONS = every(
    DestinationIp=["10.1.2.3", "10.2.0.1", "::ffff:10.1.2.3", "2001:db8::1", "::1"],
    DestinationPort=[22, 443, 80],
    Protocol=["tcp", "udp"],
    Initiated=[True],
    Image=PROGRAMS,
    Tainted=[None, ["a"]],
)


@RUNS
@given(signatures("network_connection", st.one_of(address_leaves, address_leaves, images)))
def test_a_connection_is_held_if_it_matches_and_matches_if_it_is_certain(rules):
    lowered = lower(RuleSet(tuple(rules)))
    for fact, matched in judged(rules, CONNECTIONS, "network_connection"):
        held = [watch for watch in lowered.networks if reached(watch, fact.fields)]
        for rule in matched:
            if lowered.rules[rule].part in COVERED:
                event("a match that is held")
                tainted = fact.fields.get("Tainted") and rule in lowered.taint_connects
                assert tainted or any(rule in watch.rules for watch in held)
        for watch in held:
            if watch.certain:
                event("a certain watch that finds")
                assert watch.rules & matched
        for rule, one in lowered.rules.items():
            if one.part is Part.WHOLE:
                assert any(reached(w, fact.fields) for w in one.networks) == (rule in matched)


LOCAL = every(
    DestinationHostname=PATHS,
    Protocol=["unix"],
    DestinationIp=[""],
    DestinationPort=[0],
    Initiated=[True],
    Image=PROGRAMS,
)


@RUNS
@given(
    signatures(
        "network_connection",
        st.one_of(path_leaves("DestinationHostname"), images),
        only=(Leaf("Protocol", Match.EQUALS, "unix"),),
    )
)
def test_no_certain_socket_without_a_match_and_no_match_in_a_socket_that_is_missed(rules):
    lowered = lower(RuleSet(tuple(rules)))
    for fact, matched in judged(rules, LOCAL, "network_connection"):
        held = [w for w in lowered.sockets if means(w, fact.fields["DestinationHostname"])]
        for watch in held:
            assert not watch.certain or watch.rules & matched
        for rule in matched:
            if lowered.rules[rule].part in COVERED:
                event("a match that is held")
                assert any(rule in watch.rules for watch in held)
