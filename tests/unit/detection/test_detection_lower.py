# SPDX-License-Identifier: Apache-2.0
"""What becomes of a signature in the kernel, by what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruletext import ID, detecting, loaded, rule

from monitor.detection import fold
from monitor.detection.loader import load
from monitor.detection.lower import lower
from monitor.detection.ruleset import RuleSet
from monitor.lowered import Act, NetworkWatch, Part, SocketWatch, Where

OTHER = "3f0b5b2e-6f0a-4f57-9d39-0d6a2f0e7c02"


@pytest.fixture
def lowered(tmp_path):
    def of(*rules):
        return lower(loaded(tmp_path, *rules))

    return of


@pytest.fixture
def one(lowered):
    """A rule that freezes, with one selection."""

    def of(entries, category="file_access", **changes):
        found = lowered(detecting(entries, category, response="freeze", **changes))
        return found.rules[ID]

    return of


def watches(found):
    return {(watch.where, watch.path): (watch.hold, watch.certain) for watch in found.watches}


@pytest.mark.parametrize(
    ("key", "value", "where", "path", "certain"),
    [
        ("TargetFilename|cased", "/etc/hosts", Where.EXACT, "/etc/hosts", Act.READ),
        ("TargetFilename", "/1/2", Where.EXACT, "/1/2", Act.READ),
        ("TargetFilename|startswith|cased", "/etc/x/", Where.BELOW, "/etc/x/", Act.READ),
        ("TargetFilename|endswith|cased", "/.a/b", Where.ENDING, "/.a/b", Act.READ),
        ("TargetFilename|endswith|cased", "x/b", Where.ENDING, "/b", Act(0)),
        ("TargetFilename|cased", "/h/*/.a/b", Where.ENDING, "/.a/b", Act(0)),
        ("TargetFilename|cased", "/h/?x/b.c-d", Where.ENDING, "/b.c-d", Act(0)),
    ],
)
def test_a_path_is_looked_up_whole_from_the_front_or_from_the_back(
    one, key, value, where, path, certain
):
    found = one({key: value})
    assert watches(found) == {(where, path): (Act.READ, certain)}
    assert found.part is (Part.WHOLE if certain else Part.PART)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"TargetFilename": "/etc/hosts"}, "give it `cased`"),
        ({"TargetFilename|startswith|cased": "/dev/sd"}, "ends within a name"),
        ({"TargetFilename|endswith|cased": ".key"}, "ends within a name"),
        ({"TargetFilename|cased": "/a/*x"}, "ends within a name"),
        ({"TargetFilename|contains|cased": "/.ssh/"}, "would have to be searched for"),
        ({"TargetFilename|re": "^/etc/hosts$"}, "would have to be searched for"),
        ({"TargetFilename|cased": "/a/../b"}, "no path as the kernel spells it"),
        ({"SelfCopy": True}, "`SelfCopy` is not known in the kernel"),
        ({"TargetFilename|neq|cased": "/a"}, "names nothing"),
    ],
)
def test_what_is_not_looked_up_is_told_with_its_reason(one, entries, reason):
    found = one(entries)
    assert found.part is Part.NONE
    assert reason in found.reason
    assert not found.watches


def test_of_two_necessary_parts_the_narrower_is_watched(one):
    found = one({"TargetFilename|startswith|cased": "/h/", "TargetFilename|endswith|cased": "/k"})
    assert watches(found) == {(Where.ENDING, "/k"): (Act.READ, Act(0))}


def test_of_a_whole_path_it_is_known_what_else_the_rule_says_of_the_path(lowered):
    detection = {
        "named": {"TargetFilename|cased": ["/dev/mem", "/dev/mapper/control"]},
        "but": {"TargetFilename|re": "control$"},
        "condition": "named and not but",
    }
    found = lowered(rule("file_access", detection=detection, response="kill")).rules[ID]
    assert found.part is Part.WHOLE
    assert watches(found) == {(Where.EXACT, "/dev/mem"): (Act.READ, Act.READ)}


def test_a_longer_ending_may_or_may_not_be_what_a_shorter_one_found(lowered):
    detection = {
        "named": {"TargetFilename|endswith|cased": "/b"},
        "but": {"TargetFilename|endswith|cased": "/a/b"},
        "condition": "named and not but",
    }
    found = lowered(rule("file_access", detection=detection, response="freeze")).rules[ID]
    assert watches(found) == {(Where.ENDING, "/b"): (Act.READ, Act(0))}


def test_what_no_watch_finds_leaves_the_rest_watched(one):
    found = one({"TargetFilename|endswith|cased": ["/.a/b", ".kdbx"]})
    assert found.part is Part.SOME
    assert watches(found) == {(Where.ENDING, "/.a/b"): (Act.READ, Act.READ)}


def test_operations_narrow_the_acts_and_each_name_of_a_link_has_its_own(one):
    found = one({"TargetFilename|cased": "/a", "Operation": ["open", "link"]}, "file_event")
    assert watches(found) == {(Where.EXACT, "/a"): (Act.WRITE | Act.LINK_TO,) * 2}
    found = one({"SourceFilename|cased": "/a", "Operation": "link"}, "file_event")
    assert watches(found) == {(Where.EXACT, "/a"): (Act.LINK_FROM,) * 2}


def test_a_rule_about_any_operation_also_waits_for_files_to_come_to_rest(one):
    found = one({"TargetFilename|cased": "/a"}, "file_event")
    assert found.part is Part.SOME
    assert "settled" in found.reason
    acts = Act.WRITE | Act.CREATE | Act.TRUNCATE | Act.LINK_TO | Act.SYMLINK | Act.CHMOD
    assert watches(found) == {(Where.EXACT, "/a"): (acts, acts)}


def test_what_cannot_be_true_yet_when_a_file_is_opened_is_not_held_there(one):
    found = one({"TargetFilename|cased": "/a", "SelfCopy": True}, "file_event")
    assert watches(found) == {(Where.EXACT, "/a"): (Act.LINK_TO, Act(0))}


FORGIVING = {
    "named": {"TargetFilename|cased": "/etc/shadow"},
    "but": {"Image|cased": ["/usr/bin/sudo", "/usr/bin/su"]},
    "condition": "named and not but",
}


def test_programs_that_a_rule_forgives_are_exempt_and_the_rest_is_certain(lowered):
    found = lowered(rule("file_access", detection=FORGIVING, response="freeze")).rules[ID]
    (watch,) = found.watches
    assert found.part is Part.WHOLE
    assert watch.certain == Act.READ
    assert watch.exempt == {"/usr/bin/sudo", "/usr/bin/su"}


@pytest.mark.parametrize("key", ["Image", "Image|endswith|cased"])
def test_a_program_that_is_not_named_whole_and_with_case_is_not_exempt(lowered, key):
    detection = {**FORGIVING, "but": {key: "/usr/bin/sudo"}}
    found = lowered(rule("file_access", detection=detection, response="freeze")).rules[ID]
    assert found.part is Part.PART
    assert found.watches[0].exempt == frozenset()


def test_a_program_forgiven_on_another_condition_too_is_not_exempt(lowered):
    but = {"Image|cased": "/usr/bin/sudo", "WrittenBySession": True}
    found = lowered(
        rule("file_access", detection={**FORGIVING, "but": but}, response="freeze")
    ).rules[ID]
    assert found.watches[0].exempt == frozenset()
    assert found.part is Part.PART


def test_two_rules_on_one_path_exempt_only_whom_both_forgive(lowered):
    less = {**FORGIVING, "but": {"Image|cased": "/usr/bin/sudo"}}
    found = lowered(
        rule("file_access", detection=FORGIVING, response="freeze"),
        rule("file_delete", detection=less, response="freeze", id=OTHER),
    )
    (watch,) = found.watches
    assert watch.exempt == {"/usr/bin/sudo"}
    assert watch.hold == Act.READ | Act.DELETE
    # To refuse reading would refuse it to su, which the rule about reading forgives.
    assert watch.certain == Act.DELETE
    assert watch.rules == {ID, OTHER}
    assert found.rules[ID].part is Part.PART
    assert found.rules[ID].reason == "`A rule` forgives other programs on /etc/shadow"
    assert found.rules[OTHER].part is Part.WHOLE


WHOLE, ENDING, BELOW, DEEPER = (
    {"TargetFilename|cased": "/srv/app/key"},
    {"TargetFilename|endswith|cased": "/app/key"},
    {"TargetFilename|startswith|cased": "/srv/"},
    {"TargetFilename|startswith|cased": "/srv/app/"},
)


def forgiving(selection):
    but = {"Image|cased": "/usr/bin/su"}
    return {"selection": selection, "but": but, "condition": "selection and not but"}


@pytest.mark.parametrize(
    ("forgives", "other", "part"),
    [
        (WHOLE, ENDING, Part.PART),  # one row speaks for both
        (ENDING, WHOLE, Part.PART),
        (BELOW, DEEPER, Part.PART),
        (DEEPER, BELOW, Part.PART),
        (WHOLE, BELOW, Part.WHOLE),
        (BELOW, ENDING, Part.WHOLE),
        (DEEPER, {"TargetFilename|cased": "/srv/app"}, Part.WHOLE),
    ],
)
def test_certain_is_only_what_stays_so_beside_all_rules_on_the_same_files(
    lowered, forgives, other, part
):
    found = lowered(
        rule("file_access", detection=forgiving(forgives), response="deny"),
        detecting(other, "file_access", response="freeze", id=OTHER, title="Other"),
    )
    assert found.rules[ID].part is part
    assert part is Part.WHOLE or "`Other` forgives other programs" in found.rules[ID].reason
    assert found.rules[OTHER].part is Part.WHOLE  # it forgives nobody


def test_a_directory_above_a_file_is_forgiven_nobody(lowered):
    found = lowered(
        rule(
            "file_delete",
            detection=forgiving({"TargetFilename|cased": "/srv/app"}),
            response="deny",
        ),
        detecting(DEEPER, "file_event", response="freeze", id=OTHER, title="Other"),
    )
    assert found.rules[ID].reason == "`Other` forgives other programs on /srv/app"


def test_rules_that_only_tell_are_not_lowered(lowered):
    named = {"TargetFilename|cased": "/a"}
    assert lowered(detecting(named, response="alert")).rules == {}
    assert lowered(detecting(named, response="log")).watches == ()


@pytest.mark.parametrize("response", ["deny", "ask", "freeze", "kill"])
def test_rules_that_stop_or_refuse_are_lowered(lowered, response):
    assert lowered(detecting({"TargetFilename|cased": "/a"}, response=response)).watches


def test_a_program_is_held_by_its_path_and_judged_by_its_arguments(one):
    found = one({"Image|endswith|cased": "/gpg", "CommandLine|contains": "-x"}, "process_creation")
    assert watches(found) == {(Where.ENDING, "/gpg"): (Act.EXEC, Act(0))}
    assert "`CommandLine`" in found.reason


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"DestinationIp|cidr": "10.0.0.0/8"}, {("10.0.0.0/8", (), True)}),
        (
            {"DestinationPort": [25, 465]},
            {("0.0.0.0/0", (25, 465), True), ("::/0", (25, 465), True)},
        ),
        (
            {"DestinationIp|cidr": "2001:db8::/32", "DestinationPort": 22},
            {("2001:db8::/32", (22,), True)},
        ),
        ({"DestinationIp|cidr": "10.0.0.0/8", "Protocol": "udp"}, {("10.0.0.0/8", (), False)}),
        ({"DestinationIp": "192.0.2.1"}, {("192.0.2.1/32", (), False)}),
    ],
)
def test_addresses_and_ports_are_looked_up_together(one, entries, expected):
    found = one({**entries, "DestinationHostname|exists": False}, "network_connection")
    assert {(n.network, n.ports, n.certain) for n in found.networks} == expected
    assert all(isinstance(n, NetworkWatch) for n in found.networks)


def test_a_contact_after_a_secret_is_held_by_the_taint_of_the_session(one, lowered):
    asked = {"Tainted": "credential", "FirstSeen": True, "DestinationHostname|exists": False}
    found = one(asked, "network_connection")
    assert found.taint_connects
    assert (found.part, found.networks) == (Part.SOME, ())
    assert "datagram" in found.reason
    assert one({**asked, "DestinationIp|cidr": "10.0.0.0/8"}, "network_connection").networks
    without = one({"Tainted": None, "DestinationHostname|exists": False}, "network_connection")
    assert (without.part, without.taint_connects) == (Part.NONE, False)


def test_a_name_in_a_handshake_is_known_in_user_space_only(one):
    found = one({"DestinationHostname|cased": "pay.example"}, "network_connection")
    assert found.part is Part.NONE
    assert found.reason.startswith("handshake: ")


def test_a_local_socket_is_known_by_its_path(one):
    local = {"Protocol": "unix", "DestinationHostname|cased": "/run/docker.sock"}
    found = one(local, "network_connection")
    assert found.sockets == (
        SocketWatch(Where.EXACT, "/run/docker.sock", certain=True, rules=frozenset({ID})),
    )
    assert found.part is Part.WHOLE


def test_an_operation_is_held_whatever_else_is_asked_of_it(lowered):
    found = lowered(
        detecting({"Operation": ["bpf", "mount"]}, "privileged_operation", response="freeze"),
        detecting({"TargetInSession": False}, "process_access", response="freeze", id=OTHER),
    )
    assert found.operations == {
        "bpf": {ID},
        "mount": {ID},
        "process_vm_readv": {OTHER},
        "process_vm_writev": {OTHER},
        "ptrace": {OTHER},
    }
    assert {one.part for one in found.rules.values()} == {Part.PART}


def test_an_empty_set_lowers_to_nothing():
    assert lower(RuleSet()).watches == ()


def test_lowering_keeps_nothing_of_what_it_compiled(lowered):
    lowered(detecting({"TargetFilename|cased": "/a"}, "file_event", response="freeze"))
    assert fold._test.cache_info().currsize == 0


def test_the_bundled_rules_that_guard_hosts_and_shadow_lower_whole():
    rules = load([Path(__file__).parents[3] / "rules"], variables={"home": ["/root"]})
    lowered = lower(rules)
    holding = [one.rule for one in rules.signatures if one.rule.response.holds]
    part = {rule.name: lowered.rules[rule.id].part for rule in holding}
    whole = {name for name, found in part.items() if found is Part.WHOLE}
    assert {
        *("hosts_file_write", "hosts_file_rename", "hosts_file_delete"),
        *("ld_preload_written", "ld_preload_renamed", "system_password_read"),
    } <= whole
    held = {name for name, found in part.items() if found is Part.PART}
    assert {"cloud_credential_read", "ssh_private_key_read", "browser_secret_read"} <= held


def test_whoever_starts_a_program_is_not_exempt_for_being_another(lowered):
    detection = {
        "named": {"Image|endswith|cased": "/gpg"},
        "but": {"Image|cased": "/usr/bin/gpg"},
        "condition": "named and not but",
    }
    found = lowered(rule("process_creation", detection=detection, response="freeze")).rules[ID]
    (watch,) = found.watches
    # The field is the program that is started; a watch exempts the one that acts.
    assert (watch.exempt, watch.certain) == (frozenset(), Act(0))


def test_a_field_that_is_compared_with_another_leaves_the_rest_to_user_space(tmp_path):
    both = {"TargetFilename|cased": "/etc/hosts", "Image|fieldref": "ParentImage"}
    rules = loaded(tmp_path, detecting(both, "file_access", response="freeze"))
    [found] = lower(rules).rules.values()
    assert found.part is Part.PART
    assert {watch.certain for watch in found.watches} == {Act(0)}
    same = {"TargetFilename|fieldref": "SourceFilename"}
    [found] = lower(
        loaded(tmp_path, detecting(same, "file_rename", response="freeze"))
    ).rules.values()
    assert found.part is Part.NONE


def test_what_a_whole_path_is_compared_with_is_not_known_from_the_path(tmp_path):
    detection = {
        "s": {"TargetFilename|cased": "/etc/hosts"},
        "own": {"TargetFilename|fieldref": "Image"},
        "condition": "s and not own",
    }
    rules = loaded(tmp_path, rule("file_access", detection=detection, response="freeze"))
    [found] = lower(rules).rules.values()
    assert found.part is Part.PART


def test_a_program_is_not_forgiven_because_of_what_it_is_compared_with(tmp_path):
    detection = {
        "s": {"TargetFilename|cased": "/etc/hosts"},
        "own": {"Image|fieldref": "ParentImage"},
        "tool": {"Image|cased": "/usr/bin/tool"},
        "condition": "s and (own or not tool)",
    }
    [found] = lower(loaded(tmp_path, rule(detection=detection, response="freeze"))).rules.values()
    assert {watch.exempt for watch in found.watches} == {frozenset()}
