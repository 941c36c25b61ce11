# SPDX-License-Identifier: Apache-2.0
"""The prefilter may let too much through, and never too little."""

from __future__ import annotations

import pytest

from monitor.alerts import Level, Response, Rule
from monitor.detection.condition import AllOf, AnyOf, Leaf, Match, Not
from monitor.detection.engine import Engine
from monitor.detection.prefilter import needles, scanner
from monitor.detection.ruleset import RuleSet, Signature
from monitor.fields import Fact

RULE = Rule(
    id="r", title="A rule", level=Level.HIGH, response=Response.ALERT, category="file_event"
)

HOSTS = Leaf("TargetFilename", Match.EQUALS, "/etc/hosts", cased=True)
CURL = Leaf("Image", Match.SUFFIX, "/Curl")
LONGER = Leaf("CommandLine", Match.CONTAINS, "--upload-file")
ANY = Leaf("CommandLine", Match.REGEX, "x+")
_HOSTS, _CURL = ("TargetFilename", "/etc/hosts"), ("Image", "/curl")
_LONGER = ("CommandLine", "--upload-file")


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (HOSTS, [{_HOSTS}]),
        (CURL, [{_CURL}]),
        (AnyOf((HOSTS, CURL)), [{_HOSTS, _CURL}]),
        (AllOf((CURL, LONGER)), [{_LONGER}, {_CURL}]),
        (AllOf((CURL, HOSTS, LONGER)), [{_HOSTS}, {_LONGER}]),  # the two that are rarest
        (AnyOf((AllOf((CURL, LONGER)), HOSTS)), [{_LONGER, _HOSTS}, {_CURL, _HOSTS}]),
        (AllOf((ANY, CURL)), [{_CURL}]),
        (AllOf((Not(HOSTS), CURL)), [{_CURL}]),
    ],
)
def test_of_each_set_of_needles_one_must_be_found(condition, found):
    assert needles(condition) == tuple(map(frozenset, found))


@pytest.mark.parametrize(
    "condition",
    [
        ANY,
        Not(HOSTS),
        AnyOf((HOSTS, ANY)),
        AllOf((ANY, Not(CURL))),
        Leaf("Image", Match.NULL),
        Leaf("DestinationIp", Match.NETWORK, "10.0.0.0/8"),
        Leaf("Image", Match.SUFFIX, "/q"),
        Leaf("Image", Match.SUFFIX, "/ΣΑΣ"),
        Leaf("ParentImages", Match.SUFFIX, "/curl"),
        AnyOf(()),
    ],
)
def test_where_no_literal_must_be_there_the_signature_is_always_asked(condition):
    assert needles(condition) == ()


def test_a_scan_gives_a_bit_for_each_signature_that_may_match():
    scan = scanner([needles(HOSTS), (), needles(AnyOf((HOSTS, CURL)))])
    assert scan("/usr/lib/x") == 0b010
    assert scan("/etc/hosts") == 0b111
    assert scan("/usr/bin/curl") == 0b110


def test_one_set_of_two_is_not_enough():
    scan = scanner([needles(AllOf((CURL, LONGER))), needles(CURL)])
    assert scan("/usr/bin/curl") == 0b10
    assert scan("--upload-file") == 0
    assert scan("/usr/bin/curl --upload-file") == 0b11


def test_a_needle_within_another_is_found_too():
    outer = Leaf("TargetFilename", Match.CONTAINS, "/etc/hosts.d/")
    scan = scanner([needles(HOSTS), needles(outer)])
    assert scan("/etc/hosts.d/x") == 0b11


def test_bytes_that_are_no_text_do_not_hide_a_match():
    rules = RuleSet((Signature(RULE, Leaf("TargetFilename", Match.SUFFIX, "/hosts", cased=True)),))
    fact = Fact(category="file_event", fields={"TargetFilename": "/\udcff/hosts"})
    assert len(Engine(rules).evaluate(fact)) == 1


def test_a_list_where_none_is_expected_is_looked_at_whole():
    rules = RuleSet((Signature(RULE, HOSTS),))
    fact = Fact(category="file_event", fields={"TargetFilename": ["/x", "/etc/hosts"]})
    assert len(Engine(rules).evaluate(fact)) == 1
