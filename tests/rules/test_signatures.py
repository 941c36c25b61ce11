# SPDX-License-Identifier: Apache-2.0
"""Every shipped rule against facts that it must and must not match."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.alerts import Rule
from monitor.detection.condition import REFERENCES, Leaf, asserted
from monitor.detection.engine import Engine
from monitor.detection.loader import load
from monitor.detection.ruleset import Signature
from monitor.detection.trials import SEQUENCE_KEYS, Step, completed, read
from monitor.fields import CATEGORIES, Fact

HERE = Path(__file__).parent
VARIABLES = {
    "home": ["/root", "/home/ann"],
    "estop": ["/var/lib/estop", "/run/estop"],
    "estop_secret": ["/var/lib/estop/alerts.db"],
    "payment_address": ["203.0.113.0/24"],
}
RULESET = load([HERE.parents[1] / "rules"], variables=VARIABLES)
ENGINE = Engine(RULESET)
SIGNATURES = {signature.rule.name: signature for signature in RULESET.signatures}
CORRELATIONS = {correlation.rule.name: correlation for correlation in RULESET.correlations}

ACTS = ("trigger", "untriggered")
"""What does the act on the stage of tests/e2e/test_triggers.py, or the reason why nothing can."""


def facts(name: str, key: str) -> list[Fact]:
    file = HERE / f"{name}.yml"
    data: dict[str, Any] = yaml.safe_load(file.read_text()) if file.exists() else {}
    return [Fact(**fact) for fact in data.get(key) or []]


def cases(key: str) -> list[Any]:
    return [
        pytest.param(name, fact, id=f"{name}-{number}")
        for name in SIGNATURES
        for number, fact in enumerate(facts(name, key))
    ]


def sequences(key: str) -> list[Any]:
    return [
        pytest.param(name, sequence, id=f"{name}-{number}")
        for name in CORRELATIONS
        for number, sequence in enumerate(read(HERE / f"{name}.yml")[1][key])
    ]


def told(sequence: list[Step]) -> set[str]:
    ids = completed(ENGINE, sequence)
    return {rule.name for rule in RULESET.rules if rule.id in ids}


def matched(fact: Fact) -> set[str]:
    return {rule.name for rule in ENGINE.evaluate(fact)}


def values(name: str, field: str) -> set[tuple[object, ...]]:
    """What a rule looks for in a field, as (how, value)."""
    leaves = asserted(SIGNATURES[name].condition)
    return {(leaf.match, leaf.value, leaf.cased) for leaf in leaves if leaf.field == field}


@pytest.mark.parametrize(("name", "fact"), cases("match"))
def test_the_rule_fires(name, fact):
    assert name in matched(fact)


@pytest.mark.parametrize(("name", "fact"), cases("no_match"))
def test_the_rule_stays_quiet(name, fact):
    assert name not in matched(fact)


@pytest.mark.parametrize(("name", "sequence"), sequences("match_sequence"))
def test_the_correlation_fires(name, sequence):
    assert name in told(sequence)


@pytest.mark.parametrize(("name", "sequence"), sequences("no_match_sequence"))
def test_the_correlation_stays_quiet(name, sequence):
    assert name not in told(sequence)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_a_correlation_has_sequences_on_both_sides(name):
    assert all(read(HERE / f"{name}.yml")[1].values())


def test_what_a_correlation_mutes_is_there_for_nothing_else():
    muted = [rule for rule in RULESET.rules if rule.id in RULESET.muted]
    assert muted
    assert {str(rule.response) for rule in muted} == {"log"}


@pytest.mark.parametrize("fact", facts("benign", "facts"), ids=lambda f: f.category)
def test_ordinary_work_stops_nothing(fact):
    assert [rule.name for rule in ENGINE.evaluate(fact) if rule.response.stops] == []


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_rule_has_facts_of_its_own_category_on_both_sides(name):
    category = SIGNATURES[name].rule.category
    for key in ("match", "no_match"):
        assert category in {fact.category for fact in facts(name, key)}, key


def test_every_file_of_facts_belongs_to_a_rule():
    named = {file.stem for file in HERE.glob("*.yml")}
    assert named == {*SIGNATURES, *CORRELATIONS, "benign"}


@pytest.mark.parametrize("name", [*SIGNATURES, *CORRELATIONS])
def test_a_rule_says_how_to_do_the_act_or_why_that_cannot_be_staged(name):
    said = yaml.safe_load((HERE / f"{name}.yml").read_text())
    assert [bool(said.get(key)) for key in ACTS].count(True) == 1


def test_facts_hold_only_fields_of_their_category():
    for file in HERE.glob("*.yml"):
        for key in yaml.safe_load(file.read_text()).keys() - {*SEQUENCE_KEYS, *ACTS}:
            for fact in facts(file.stem, key):
                assert fact.fields.keys() <= CATEGORIES[fact.category].keys(), file.name


def test_no_shipped_rule_is_off_on_a_host_with_all_variables():
    assert RULESET.inactive == ()


def test_only_the_listed_addresses_rule_is_off_without_a_list():
    variables = {name: values for name, values in VARIABLES.items() if name != "payment_address"}
    ruleset = load([HERE.parents[1] / "rules"], variables=variables)
    assert [off.rule.name for off in ruleset.inactive] == ["payment_address"]
    assert ruleset.inactive[0].reason == "%payment_address% has no value on this host"


def test_rules_have_names_authors_and_reasons():
    rules = RULESET.rules
    assert len({rule.name for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.author == "estop"
        assert rule.description
        assert rule.tags
        assert rule.falsepositives


def test_nothing_is_killed_by_default():
    assert {str(rule.response) for rule in RULESET.rules} == {"log", "alert", "freeze"}


READ_RULES = [
    "mail_store_read",
    "browser_secret_read",
    "cloud_credential_read",
    "ssh_private_key_read",
    "keyring_read",
    "wallet_read",
    "system_password_read",
]


@pytest.mark.parametrize("moved", ["credential_linked", "credential_renamed"])
@pytest.mark.parametrize("read", READ_RULES)
def test_a_credential_that_must_not_be_read_must_not_be_moved_either(read, moved):
    assert values(read, "TargetFilename") <= values(moved, "SourceFilename")


@pytest.mark.parametrize("read", ["browser_secret_read", "cloud_credential_read"])
def test_a_credential_that_may_be_read_once_written_is_guarded_against_writing(read):
    assert values(read, "TargetFilename") <= values("credential_overwritten", "TargetFilename")


def test_only_guarded_credentials_are_let_off_for_having_been_written():
    fields = {"Image": "/usr/bin/cat", "WrittenBySession": True}
    for path in ("/root/.ssh/id_rsa", "/etc/shadow", "/root/.msmtprc", "/root/.bitcoin/wallet.dat"):
        fact = Fact(category="file_access", fields={**fields, "TargetFilename": path})
        assert any(rule.response.stops for rule in ENGINE.evaluate(fact)), path


def test_resolver_files_are_the_same_in_all_three_rules():
    written = values("hosts_file_write", "TargetFilename")
    assert written == values("hosts_file_delete", "TargetFilename")
    assert written <= values("hosts_file_rename", "TargetFilename")
    assert values("hosts_file_rename", "TargetFilename") == values(
        "hosts_file_rename", "SourceFilename"
    )


def test_autostart_places_are_the_same_for_the_agent_and_for_others():
    for mine, any_ in (
        ("self_copy_autostart", "autostart_written"),
        ("self_copy_autostart_renamed", "autostart_renamed"),
        ("autostart_renamed", "autostart_written"),
    ):
        assert values(mine, "TargetFilename") == values(any_, "TargetFilename")


def test_payment_services_are_the_same_by_question_and_by_handshake():
    asked = values("payment_name_asked", "QueryName")
    assert asked == values("payment_connection", "DestinationHostname")


def test_every_payment_service_counts_with_and_without_a_host_before_it():
    names = values("payment_name_asked", "QueryName")
    exact = {value for how, value, _ in names if how == "equals"}
    below = {str(value) for how, value, _ in names if how == "suffix"}
    assert below == {f".{name}" for name in exact}


@pytest.mark.parametrize("signature", RULESET.signatures, ids=lambda s: s.rule.name)
def test_paths_are_compared_with_their_case_as_linux_does(signature: Signature):
    """A path leaf that ignores case could never be judged by a map in the kernel."""
    for leaf in leaves_of_paths(signature):
        assert leaf.cased or leaf.match in {"null", "regex", *REFERENCES}, leaf


def leaves_of_paths(signature: Signature) -> list[Leaf]:
    both = (*asserted(signature.condition), *asserted(signature.condition, positive=False))
    return [leaf for leaf in both if leaf.field in {"TargetFilename", "SourceFilename", "Image"}]


def test_watched_paths_name_what_a_hard_link_must_not_hide():
    paths = set(RULESET.watched_paths(["/root", "/home/ann"]))
    assert {"/etc/hosts", "/etc/shadow", "/home/ann/.aws/credentials", "/root/.ssh/id_rsa"} <= paths


def rules_of(response: str) -> list[Rule]:
    return [rule for rule in RULESET.rules if rule.response == response]


def test_a_rule_that_stops_is_at_least_high():
    real = [rule for rule in rules_of("freeze") if rule.name != "self_test"]  # a canary: no harm
    assert {str(rule.level) for rule in real} <= {"high", "critical"}
