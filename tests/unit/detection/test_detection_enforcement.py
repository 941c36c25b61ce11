# SPDX-License-Identifier: Apache-2.0
"""What is said of a rule on a host: never more than its weakest part is worth there."""

from __future__ import annotations

import pytest
from ruletext import ID, detecting, loaded, rule, written

from monitor.detection.enforcement import USUAL_HOST, Facility, Host, of_rules, problems
from monitor.detection.explain import explain, in_force, matching
from monitor.detection.loader import load
from monitor.detection.lower import lower
from monitor.tier import Tier

LSM = Host(Tier.LSM, frozenset(Facility))
TRACEPOINT = USUAL_HOST
NO_FANOTIFY = Host(Tier.TRACEPOINT, frozenset({Facility.HOLD, Facility.NETWORK}))
NO_PROGRAMS = Host(Tier.LSM, frozenset(Facility) - {Facility.PROGRAMS})
ONLY_TELLS = Host(Tier.TRACEPOINT, frozenset())

PREVENTED, HELD, DETECTED = "prevented in kernel", "held in kernel", "detected in user space"

READ = ("file_access", {"TargetFilename|cased": "/etc/shadow"})
READ_OF_KERNEL = ("file_access", {"TargetFilename|cased": ["/etc/shadow", "/proc/kcore"]})
WRITE_TO_KERNEL = (
    "file_event",
    {"Operation": "open", "TargetFilename|cased": "/proc/sys/kernel/core_pattern"},
)
READ_BELOW = ("file_access", {"TargetFilename|startswith|cased": "/etc/x/"})
DELETE = ("file_delete", {"TargetFilename|cased": "/etc/hosts"})
DELETE_BELOW = ("file_delete", {"TargetFilename|startswith|cased": "/etc/x/"})
DELETE_ENDING = ("file_delete", {"TargetFilename|endswith|cased": "/.kube/config"})
DELETE_LAST = ("file_delete", {"TargetFilename|endswith|cased": "/.netrc"})
DELETE_LONG = ("file_delete", {"TargetFilename|cased": f"/etc/{'n' * 64}"})
TRUNCATE = ("file_event", {"Operation": "truncate", "TargetFilename|cased": "/etc/hosts"})
CHMOD = ("file_event", {"Operation": "chmod", "TargetFilename|cased": "/etc/hosts"})
LINK_FROM = ("file_event", {"Operation": "link", "SourceFilename|cased": "/etc/hosts"})
LONG = "/etc/" + "/".join(["n" * 49] * 5)  # 254 bytes
READ_LONG = ("file_access", {"TargetFilename|cased": LONG + "n"})
READ_SHORTER = ("file_access", {"TargetFilename|cased": LONG[:-1]})
READ_LONG_BELOW = ("file_access", {"TargetFilename|startswith|cased": LONG + "nn/"})
READ_LONG_ENDING = ("file_access", {"TargetFilename|endswith|cased": LONG + "nn"})
READ_ALL = ("file_access", {"TargetFilename|startswith|cased": "/"})
NARROWED = ("file_access", {"TargetFilename|cased": "/a", "WrittenBySession": True})
SOME = ("file_access", {"TargetFilename|endswith|cased": ["/a", ".kdbx"]})
SEARCHED = ("file_access", {"TargetFilename|contains|cased": "/a/"})
ADDRESS = ("network_connection", {"DestinationIp|cidr": "10.0.0.0/8"})
SOCKET = ("network_connection", {"Protocol": "unix", "DestinationHostname|cased": "/run/x"})
OPERATION = ("privileged_operation", {"Operation": "bpf"})

TABLE = [
    (READ, LSM, PREVENTED),
    (READ, TRACEPOINT, PREVENTED),
    (READ, NO_FANOTIFY, HELD),
    (READ, ONLY_TELLS, DETECTED),
    (READ_OF_KERNEL, LSM, PREVENTED),
    (READ_OF_KERNEL, TRACEPOINT, HELD),
    (WRITE_TO_KERNEL, TRACEPOINT, HELD),
    (READ_BELOW, LSM, PREVENTED),
    (READ_BELOW, TRACEPOINT, HELD),
    (DELETE, LSM, PREVENTED),
    (DELETE, TRACEPOINT, HELD),
    (DELETE_BELOW, LSM, PREVENTED),
    (DELETE_BELOW, TRACEPOINT, DETECTED),  # two levels down, or through a link
    (DELETE_ENDING, TRACEPOINT, DETECTED),
    (DELETE_LAST, TRACEPOINT, HELD),
    (DELETE_LONG, LSM, PREVENTED),
    (DELETE_LONG, TRACEPOINT, DETECTED),
    (TRUNCATE, LSM, PREVENTED),
    (TRUNCATE, TRACEPOINT, DETECTED),  # of a link to it
    (CHMOD, TRACEPOINT, DETECTED),
    (LINK_FROM, TRACEPOINT, DETECTED),
    (READ_LONG, LSM, DETECTED),
    (READ_LONG, TRACEPOINT, DETECTED),
    (READ_SHORTER, LSM, PREVENTED),
    (READ_LONG_BELOW, LSM, DETECTED),
    (READ_LONG_ENDING, LSM, DETECTED),
    (READ_ALL, LSM, DETECTED),
    (READ_ALL, TRACEPOINT, DETECTED),
    (NARROWED, LSM, HELD),
    (NARROWED, TRACEPOINT, HELD),
    (NARROWED, ONLY_TELLS, DETECTED),
    (SOME, LSM, DETECTED),
    (SOME, TRACEPOINT, DETECTED),
    (SEARCHED, LSM, DETECTED),
    (ADDRESS, LSM, PREVENTED),
    (ADDRESS, TRACEPOINT, PREVENTED),
    (ADDRESS, ONLY_TELLS, DETECTED),
    (SOCKET, LSM, PREVENTED),
    (SOCKET, TRACEPOINT, HELD),
    (OPERATION, LSM, HELD),
    (OPERATION, TRACEPOINT, HELD),
]


@pytest.mark.parametrize(("what", "host", "word"), TABLE)
def test_a_rule_on_a_host(tmp_path, what, host, word):
    category, entries = what
    ruleset = loaded(tmp_path, detecting(entries, category, response="freeze"))
    found = of_rules(ruleset, lower(ruleset), host)[ID]
    assert str(found) == word
    assert found.why


@pytest.mark.parametrize(("what", "host", "word"), TABLE)
def test_a_deny_that_is_not_prevented_is_an_error_with_its_line(tmp_path, what, host, word):
    category, entries = what
    ruleset = loaded(tmp_path, detecting(entries, category, response="deny"))
    found = problems(ruleset, lower(ruleset), host)
    if word == PREVENTED:
        assert found == []
        return
    (problem,) = found
    text = (tmp_path / "rule.yml").read_text().splitlines()
    assert text[problem.line - 1] == "response: deny"
    can = "can only hold" if word == HELD else "can only detect"
    assert f"this host {can}" in problem.message
    assert "use `freeze`" in str(problem)


@pytest.mark.parametrize(
    ("host", "word"), [(LSM, PREVENTED), (NO_PROGRAMS, HELD), (TRACEPOINT, PREVENTED)]
)
def test_who_is_forgiven_has_to_be_known_where_the_kernel_refuses_by_itself(tmp_path, host, word):
    but = {"Image|cased": "/usr/bin/su"}
    detection = {"selection": READ[1], "but": but, "condition": "selection and not but"}
    ruleset = loaded(tmp_path, rule(READ[0], detection=detection, response="deny"))
    lowered = lower(ruleset)
    assert of_rules(ruleset, lowered, host)[ID].word == word
    assert bool(problems(ruleset, lowered, host)) is (word == HELD)
    forgives_nobody = loaded(tmp_path, detecting(READ[1], READ[0], response="deny"))
    assert problems(forgives_nobody, lower(forgives_nobody), host) == []


@pytest.mark.parametrize("response", ["ask", "freeze", "kill", "alert"])
def test_only_a_deny_asks_for_prevention(tmp_path, response):
    ruleset = loaded(tmp_path, detecting(SEARCHED[1], SEARCHED[0], response=response))
    assert problems(ruleset, lower(ruleset), TRACEPOINT) == []


def test_a_rule_that_only_alerts_is_detected_and_says_why(tmp_path):
    ruleset = loaded(tmp_path, detecting(READ[1], READ[0], response="alert"))
    found = of_rules(ruleset, lower(ruleset), LSM)[ID]
    assert str(found) == DETECTED
    assert "alert" in found.why


def test_a_rule_without_its_variable_is_off_and_says_why(tmp_path):
    entries = {"DestinationIp|cidr|expand": "%payment_address%"}
    file = written(tmp_path, detecting(entries, "network_connection", response="freeze"))
    ruleset = load([file])
    (shown,) = in_force(ruleset, lower(ruleset), LSM)
    assert shown.enforcement == "off: %payment_address% has no value on this host"


def test_what_is_watched_is_not_said_to_be_held_where_nothing_is(tmp_path):
    ruleset = loaded(tmp_path, detecting(SOME[1], SOME[0], response="freeze"))
    lowered = lower(ruleset)
    assert "is held" in of_rules(ruleset, lowered, TRACEPOINT)[ID].why
    assert "is held" not in of_rules(ruleset, lowered, ONLY_TELLS)[ID].why


def test_a_rule_is_found_by_id_name_and_title_and_shown_with_its_acts_by_name(tmp_path):
    ruleset = loaded(tmp_path, detecting(READ[1], READ[0], response="freeze", name="shadow"))
    lowered = lower(ruleset)
    everyone = in_force(ruleset, lowered, TRACEPOINT)
    for word in (ID, ID.upper(), "shadow", "a RULE"):
        assert matching(everyone, word) == everyone
    assert matching(everyone, "shado") == []
    shown = explain(everyone[0], lowered.rules[ID])
    (watch,) = shown.watches
    assert (watch.where, watch.path, watch.hold) == ("exact", "/etc/shadow", ("read",))


def explained(directory, what):
    category, entries = what
    ruleset = loaded(directory, detecting(entries, category, response="freeze"))
    lowered = lower(ruleset)
    (rule,) = in_force(ruleset, lowered, TRACEPOINT)
    return explain(rule, lowered.rules[ID])


def test_an_explanation_says_what_the_kernel_looks_for_of_each_kind(tmp_path):
    assert (explained(tmp_path, READ).part, explained(tmp_path, SEARCHED).part) == ("whole", "none")
    assert explained(tmp_path, NARROWED).part == "part"
    assert explained(tmp_path, OPERATION).operations == ("bpf",)
    (network,) = explained(tmp_path, ADDRESS).networks
    assert (network["network"], network["certain"]) == ("10.0.0.0/8", True)
    (socket,) = explained(tmp_path, SOCKET).sockets
    assert (socket["where"], socket["path"]) == ("exact", "/run/x")
    tainted = ("network_connection", {"Tainted|contains": "credential"})
    assert explained(tmp_path, tainted).taint_connects
    assert not explained(tmp_path, ADDRESS).taint_connects
