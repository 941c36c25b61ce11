# SPDX-License-Identifier: Apache-2.0
"""The prefilter may let too much through, and never too little."""

from __future__ import annotations

import pytest

from monitor.alerts import Level, Response, Rule
from monitor.detection.condition import AllOf, AnyOf, Leaf, Match, Not
from monitor.detection.engine import Engine
from monitor.detection.prefilter import needles, prefilter
from monitor.detection.ruleset import RuleSet, Signature
from monitor.fields import Fact

RULE = Rule(
    id="r", title="A rule", level=Level.HIGH, response=Response.ALERT, category="file_event"
)

HOSTS = Leaf("TargetFilename", Match.EQUALS, "/etc/hosts", cased=True)
CURL = Leaf("Image", Match.SUFFIX, "/Curl")
LONGER = Leaf("CommandLine", Match.CONTAINS, "--upload-file")
OWN = Leaf("SelfCopy", Match.EQUALS, "true")
ANY = Leaf("CommandLine", Match.REGEX, "x+")
EITHER = Leaf("CommandLine", Match.REGEX, "(?i)Curl|wget|a.*[^/]upload")
_HOSTS = Leaf("TargetFilename", Match.EQUALS, "/etc/hosts")
_CURL = Leaf("Image", Match.SUFFIX, "/curl")
_EITHER = {Leaf("CommandLine", Match.CONTAINS, word) for word in ("curl", "wget", "upload")}


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (HOSTS, [{_HOSTS}]),
        (CURL, [{_CURL}]),
        (AnyOf((HOSTS, CURL)), [{_HOSTS, _CURL}]),
        (AllOf((CURL, LONGER)), [{LONGER}, {_CURL}]),
        (AllOf((EITHER, CURL, HOSTS, LONGER)), [{_HOSTS}, {LONGER}, {_CURL}]),  # the rarest three
        (AllOf((OWN, CURL)), [{_CURL}]),  # what most facts share says little
        (AllOf((OWN, Not(CURL))), [{OWN}]),
        (AnyOf((AllOf((CURL, LONGER)), HOSTS)), [{LONGER, _HOSTS}, {_CURL, _HOSTS}]),
        (AllOf((ANY, CURL)), [{_CURL}]),
        (AllOf((Not(HOSTS), CURL)), [{_CURL}]),
        (EITHER, [_EITHER]),
        (Leaf("Image", Match.SUFFIX, "/q"), [{Leaf("Image", Match.SUFFIX, "/q")}]),
        (
            Leaf("ParentImages", Match.SUFFIX, "/curl"),
            [{Leaf("ParentImages", Match.SUFFIX, "/curl")}],
        ),
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
        Leaf("CommandLine", Match.CONTAINS, "-x"),
        Leaf("Image", Match.SUFFIX, "/ΣΑΣ"),
        Leaf("Image", Match.SAME_AS, "ParentImage"),
        AnyOf(()),
    ],
)
def test_where_no_literal_must_be_there_the_signature_is_always_asked(condition):
    assert needles(condition) == ()


def test_there_is_a_bit_for_each_signature_that_may_match():
    candidates = prefilter([needles(HOSTS), (), needles(AnyOf((HOSTS, CURL)))])
    assert candidates({"TargetFilename": "/usr/lib/x"}.get) == 0b010
    assert candidates({"TargetFilename": "/etc/hosts"}.get) == 0b111
    assert candidates({"Image": "/usr/bin/CURL"}.get) == 0b110


def test_one_set_of_several_is_not_enough():
    candidates = prefilter([needles(AllOf((CURL, LONGER))), needles(CURL)])
    assert candidates({"Image": "/usr/bin/curl"}.get) == 0b10
    assert candidates({"CommandLine": "curl --upload-file"}.get) == 0
    assert candidates({"Image": "/curl", "CommandLine": "curl --upload-file"}.get) == 0b11


@pytest.mark.parametrize(
    ("how", "path", "found"),
    [
        (Match.EQUALS, "/etc/hosts", True),
        (Match.EQUALS, "/etc/hosts2", False),
        (Match.EQUALS, "/x/etc/hosts", False),
        (Match.PREFIX, "/etc/hosts2", True),
        (Match.PREFIX, "/x/etc/hosts", False),
        (Match.SUFFIX, "/x/etc/hosts", True),
        (Match.SUFFIX, "/etc/hosts2", False),
        (Match.CONTAINS, "/x/etc/hosts2", True),
    ],
)
def test_a_needle_is_looked_for_where_the_rule_says(how, path, found):
    candidates = prefilter([needles(Leaf("TargetFilename", how, "/etc/hosts"))])
    assert bool(candidates({"TargetFilename": path}.get)) is found
    assert not candidates({"SourceFilename": path}.get)


def test_a_needle_within_another_is_found_too():
    outer = Leaf("TargetFilename", Match.CONTAINS, "/etc/hosts.d/")
    inner = Leaf("TargetFilename", Match.CONTAINS, "hosts")
    candidates = prefilter([needles(inner), needles(outer)])
    assert candidates({"TargetFilename": "/etc/hosts.d/x"}.get) == 0b11


def test_any_element_of_a_list_will_do():
    candidates = prefilter([needles(Leaf("Tainted", Match.EQUALS, "credential"))])
    assert candidates({"Tainted": ["mail", "credential"]}.get) == 1
    assert candidates({"Tainted": ["mail"]}.get) == candidates({}.get) == 0


@pytest.mark.parametrize("values", [[True, 1], [1, True], [0, False], ["1", 1, True]])
def test_what_python_takes_for_the_same_is_told_apart(values):
    """`True == 1`, also as a key of what is remembered."""
    texts = ["true", "false", "1", "0"]
    candidates = prefilter([needles(Leaf("SelfCopy", Match.EQUALS, text)) for text in texts])
    for value in values:
        spelled = str(value).lower()
        assert candidates({"SelfCopy": value}.get) == 1 << texts.index(spelled)


def test_more_texts_than_are_remembered_are_found_all_the_same():
    candidates = prefilter([needles(HOSTS)])
    for number in range(5000):
        assert not candidates({"TargetFilename": f"/tmp/{number}"}.get)
    assert candidates({"TargetFilename": "/etc/hosts"}.get)
    assert candidates({"TargetFilename": "/etc/hosts"}.get)


def test_bytes_that_are_no_text_do_not_hide_a_match():
    rules = RuleSet((Signature(RULE, Leaf("TargetFilename", Match.SUFFIX, "/hosts", cased=True)),))
    fact = Fact(category="file_event", fields={"TargetFilename": "/\udcff/hosts"})
    assert len(Engine(rules).evaluate(fact)) == 1


def test_a_list_where_none_is_expected_is_looked_at_whole():
    rules = RuleSet((Signature(RULE, HOSTS),))
    fact = Fact(category="file_event", fields={"TargetFilename": ["/x", "/etc/hosts"]})
    assert len(Engine(rules).evaluate(fact)) == 1
