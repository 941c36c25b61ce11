# SPDX-License-Identifier: Apache-2.0
"""A variable stands for its values on this host, and is never lost without a word."""

from textwrap import dedent

import pytest
from ruletext import ID, SOUND, detecting, loaded, one_problem, problems

from monitor.detection.condition import Leaf, Match


def test_a_variable_stands_for_each_of_its_values(tmp_path):
    entries = {"TargetFilename|startswith|expand": ["%home%/.ssh/", "%home%/x/%home%"]}
    ruleset = loaded(tmp_path, detecting(entries), variables={"home": ["/root", "/h/a"]})
    [signature] = ruleset.signatures
    assert {leaf.value for leaf in signature.condition.terms} == {
        *("/root/.ssh/", "/h/a/.ssh/", "/root/x//root", "/root/x//h/a", "/h/a/x//root"),
        "/h/a/x//h/a",
    }


def test_more_homes_than_sigma_would_expand_are_no_problem(tmp_path):
    homes = [f"/home/u{n}" for n in range(500)]
    entries = {"TargetFilename|startswith|expand": "%home%/.ssh/"}
    [signature] = loaded(tmp_path, detecting(entries), variables={"home": homes}).signatures
    assert len(signature.condition.terms) == 500


def test_a_variable_works_under_cidr_and_in_an_expression(tmp_path):
    variables = {"payment_address": ["203.0.113.0/24"], "home": ["/h/a.b*"]}
    entries = {"DestinationIp|cidr|expand": "%payment_address%", "Image|re|expand": "^%home%/x"}
    ruleset = loaded(tmp_path, detecting(entries, "network_connection"), variables=variables)
    network, regex = ruleset.signatures[0].condition.terms
    assert network == Leaf("DestinationIp", Match.NETWORK, "203.0.113.0/24")
    assert regex == Leaf("Image", Match.REGEX, r"^\/h\/a\.b\*/x")


def test_nothing_in_a_variable_is_a_wildcard(tmp_path):
    entries = {"TargetFilename|expand": "%home%"}
    [signature] = loaded(tmp_path, detecting(entries), variables={"home": ["/h/*?\\"]}).signatures
    assert signature.condition == Leaf("TargetFilename", Match.EQUALS, "/h/*?\\")


@pytest.mark.parametrize("variables", [{}, {"home": []}])
def test_a_rule_without_a_value_for_its_variable_is_off_and_says_why(tmp_path, variables):
    entries = {"TargetFilename|expand": "%home%/x"}
    ruleset = loaded(tmp_path, detecting(entries), variables=variables)
    assert ruleset.rules == ()
    [off] = ruleset.inactive
    assert (off.rule.id, off.reason) == (ID, "%home% has no value on this host")


@pytest.mark.parametrize(
    ("entry", "message", "mend"),
    [
        ("TargetFilename|expand: '%hmoe%'", "unknown variable `%hmoe%`", "did you mean `home`?"),
        ("TargetFilename|expand: /x", "`/x` names no variable", "leave out `|expand`"),
        ("TargetFilename: '%home%/x'", "`%home%/x` is taken as it stands", "add `|expand`"),
    ],
)
def test_a_variable_that_would_not_be_replaced_is_refused(tmp_path, entry, message, mend):
    text = SOUND.replace("TargetFilename: /etc/hosts", entry)
    assert one_problem(tmp_path, text, home=["/root"]) == (8, message, mend)


def test_a_bad_value_of_a_variable_is_told_at_the_rule_that_uses_it(tmp_path):
    text = SOUND.replace("TargetFilename: /etc/hosts", "Image|cidr|expand: '%payment_address%'")
    line, message, _ = one_problem(tmp_path, text, payment_address=["203.0.113.9/24"])
    assert line == 8
    assert "has host bits set" in message


def test_a_field_beside_its_expanded_twin_is_refused_instead_of_lost(tmp_path):
    text = dedent(SOUND).replace(
        "{TargetFilename: /etc/hosts}", "\n        Image: /a\n        Image|expand: '%home%'"
    )
    lines = {line for line, *_ in problems(tmp_path, text, home=["/root"])}
    assert lines == {9, 10}
