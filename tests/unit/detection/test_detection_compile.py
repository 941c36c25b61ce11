# SPDX-License-Identifier: Apache-2.0
"""What a field of a rule matches: Sigma's semantics as the generated code has them."""

from base64 import b64encode

import pytest
from ruletext import detecting, loaded

from monitor.detection.engine import Engine
from monitor.fields import Fact


def fires(directory, entries, fields, category="file_event"):
    engine = Engine(loaded(directory, detecting(entries, category)))
    fired = bool(engine.evaluate(Fact(category=category, fields=fields)))
    assert not engine.errors
    return fired


@pytest.mark.parametrize(
    ("entries", "path", "expected"),
    [
        ({"TargetFilename": "/etc/hosts"}, "/etc/hosts", True),
        ({"TargetFilename": "/etc/hosts"}, "/ETC/Hosts", True),
        ({"TargetFilename|cased": "/etc/hosts"}, "/ETC/Hosts", False),
        ({"TargetFilename|cased": "/etc/hosts"}, "/etc/hosts", True),
        ({"TargetFilename": ["/a", "/b"]}, "/b", True),
        ({"TargetFilename|startswith": "/etc/"}, "/etc/hosts", True),
        ({"TargetFilename|startswith": ["/x/", "/etc/"]}, "/etc/hosts", True),
        ({"TargetFilename|endswith": "/.npmrc"}, "/root/.npmrc", True),
        ({"TargetFilename|endswith": "/.npmrc"}, "/root/x.npmrc", False),
        ({"TargetFilename|contains": ["q", "oo"]}, "/root", True),
        ({"TargetFilename|contains|all": ["r", "q"]}, "/root", False),
        ({"TargetFilename|contains|all": ["r", "t"]}, "/root", True),
        ({"TargetFilename": "/etc/*.conf"}, "/etc/a/b.conf", True),
        ({"TargetFilename": "/etc/?.conf"}, "/etc/ab.conf", False),
        ({"TargetFilename": "/etc/?.conf"}, "/etc/.conf", False),
        ({"TargetFilename": "/etc/*\n.conf"}, "/etc/x\ny\n.conf", True),
        ({"TargetFilename": r"/a\*"}, "/a*", True),
        ({"TargetFilename": r"/a\*"}, "/ab", False),
        ({"TargetFilename": "*"}, "", True),
        ({"TargetFilename": ""}, "", True),
        ({"TargetFilename": ["", "/x"]}, "", True),
        ({"TargetFilename|re": "h.sts$"}, "/etc/hosts", True),
        ({"TargetFilename|re": "H.STS"}, "/etc/hosts", False),
        ({"TargetFilename|re|i": "H.STS"}, "/etc/hosts", True),
        ({"TargetFilename|re": "x.y"}, "/x\ny", False),
        ({"TargetFilename|re|s": "x.y"}, "/x\ny", True),
        ({"TargetFilename|re|m": "x.y"}, "/x\ny", False),
        ({"TargetFilename|re": "^y$"}, "/x\ny", False),
        ({"TargetFilename|re|m": "^y$"}, "/x\ny", True),
        ({"TargetFilename|re|s": "^y$"}, "/x\ny", False),
        ({"TargetFilename|neq": "/etc/hosts"}, "/etc/passwd", True),
        ({"TargetFilename|neq": "/etc/hosts"}, "/etc/hosts", False),
    ],
)
def test_text_is_compared_as_sigma_says(tmp_path, entries, path, expected):
    assert fires(tmp_path, entries, {"TargetFilename": path}) is expected


@pytest.mark.parametrize(
    "entries",
    [
        {"TargetFilename": ""},
        {"TargetFilename": "*"},
        {"TargetFilename|re": ".*"},
        {"TargetFilename": "*a*b*"},
        {"TargetFilename|exists": True},
        {"Inode|lt": 5},
    ],
)
def test_an_absent_field_matches_nothing_but_null(tmp_path, entries):
    assert not fires(tmp_path, entries, {})
    assert not fires(tmp_path, entries, {"TargetFilename": None, "Inode": None})


@pytest.mark.parametrize("entries", [{"Mode": None}, {"Mode|exists": False}])
def test_null_is_an_absent_field(tmp_path, entries):
    assert fires(tmp_path, entries, {})
    assert fires(tmp_path, entries, {"Mode": []})
    assert not fires(tmp_path, entries, {"Mode": ""})


@pytest.mark.parametrize("written", [True, "true", "True"])
@pytest.mark.parametrize("fact", [True, "true"])
def test_a_boolean_may_be_written_either_way(tmp_path, written, fact):
    assert fires(tmp_path, {"SelfCopy": written}, {"SelfCopy": fact})
    assert not fires(tmp_path, {"SelfCopy": written}, {"SelfCopy": False})


def test_a_boolean_is_no_number(tmp_path):
    assert not fires(tmp_path, {"SelfCopy": 1}, {"SelfCopy": True})
    assert not fires(tmp_path, {"SelfCopy|gt": 0}, {"SelfCopy": True})


def test_a_cased_boolean_is_spelt_in_lower_case(tmp_path):
    assert fires(tmp_path, {"SelfCopy|cased": "true"}, {"SelfCopy": True})


@pytest.mark.parametrize("port", [443, "443"])
def test_numbers_match_as_numbers_and_as_text(tmp_path, port):
    for entries in ({"DestinationPort": 443}, {"DestinationPort": "443"}):
        assert fires(tmp_path, entries, {"DestinationPort": port}, "network_connection")


@pytest.mark.parametrize(
    ("modifier", "bound", "value", "expected"),
    [
        ("lt", 5, 4, True),
        ("lt", 5, 5, False),
        ("lte", 5, 5, True),
        ("gt", 5, "6", True),
        ("gt", 5, 5, False),
        ("gte", 4.5, 5, True),
        ("gt", 5, "abc", False),
        ("gt", 5, "nan", False),
        ("gt", 5, "٩", False),
        ("gt", 5, "9" * 5000, False),
    ],
)
def test_numbers_are_compared(tmp_path, modifier, bound, value, expected):
    assert fires(tmp_path, {f"Inode|{modifier}": bound}, {"Inode": value}) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.9", True),
        ("::ffff:203.0.113.9", True),
        ("2001:db8::1", True),
        ("198.51.100.1", False),
        ("::1", False),
        ("", False),
        ("not an address", False),
    ],
)
def test_an_address_is_looked_for_in_networks(tmp_path, address, expected):
    entries = {"DestinationIp|cidr": ["203.0.113.0/24", "2001:db8::/32"]}
    fields = {"DestinationIp": address}
    assert fires(tmp_path, entries, fields, "network_connection") is expected


BAD_BYTES = "/etc/\udcff\udce9/hosts"


@pytest.mark.parametrize(
    "entries",
    [
        {"TargetFilename|endswith": "/hosts"},
        {"TargetFilename": "/etc/*/hosts"},
        {"TargetFilename": "/etc/??/hosts"},
        {"TargetFilename|re": "^/etc/../hosts$"},
        {"TargetFilename|re": "^/etc/[^a]+/hosts$"},
        {"TargetFilename|re": "^[^?]+$"},
    ],
)
def test_an_undecodable_byte_is_one_character_to_every_test(tmp_path, entries):
    assert fires(tmp_path, entries, {"TargetFilename": BAD_BYTES})


def test_a_home_with_an_undecodable_byte_is_found(tmp_path):
    entries = {"TargetFilename|startswith|expand": "%home%/.ssh/"}
    ruleset = loaded(tmp_path, detecting(entries), variables={"home": ["/home/\udcff"]})
    fact = Fact(category="file_event", fields={"TargetFilename": "/home/\udcff/.ssh/id_rsa"})
    assert Engine(ruleset).evaluate(fact)


@pytest.mark.parametrize("entries", [{"Image": "/b"}, {"Image|endswith": "b"}, {"Image|re": "b"}])
def test_a_list_matches_if_any_element_does(tmp_path, entries):
    assert fires(tmp_path, entries, {"Image": ["/a", "/b"]})
    assert not fires(tmp_path, entries, {"Image": ["/a", "/c"]})
    assert not fires(tmp_path, entries, {"Image": []})


def test_text_of_a_rule_never_becomes_code(tmp_path):
    nasty = "'] + __import__('os').getcwd() # \\ \" {v0} \n"
    assert fires(tmp_path, {"TargetFilename|endswith": nasty}, {"TargetFilename": "x" + nasty})


def test_a_list_of_mappings_is_an_alternative(tmp_path):
    entries = [{"Operation": "open", "TargetFilename": "/a"}, {"TargetFilename": "/b"}]
    assert fires(tmp_path, entries, {"TargetFilename": "/b"})
    assert not fires(tmp_path, entries, {"TargetFilename": "/a", "Operation": "create"})


def test_a_cased_and_an_uncased_text_stay_what_they_are(tmp_path):
    entries = [{"TargetFilename|cased": "/A"}, {"TargetFilename": "/b"}]
    fired = {
        path: fires(tmp_path, entries, {"TargetFilename": path}) for path in ("/a", "/A", "/B")
    }
    assert fired == {"/a": False, "/A": True, "/B": True}


def test_base64_and_windash_are_expanded(tmp_path):
    encoded = {"CommandLine|base64offset|contains": "secret"}
    line = {"CommandLine": "echo eHNlY3JldA== | base64 -d"}
    assert fires(tmp_path, encoded, line, "process_creation")
    dashed = {"CommandLine|windash|contains": " -x"}
    assert fires(tmp_path, dashed, {"CommandLine": "tool /x"}, "process_creation")


@pytest.mark.parametrize(
    ("modifiers", "image", "parent", "expected"),
    [
        ("fieldref", "/bin/Sh", "/bin/sh", True),
        ("fieldref", "/bin/sh", "/bin/sh2", False),
        ("fieldref", None, None, False),
        ("fieldref", "", None, False),
        ("fieldref|startswith", "/a/b", "/a", True),
        ("fieldref|startswith", "/a", "/a/b", False),
        ("fieldref|startswith", "/a", "", False),
        ("fieldref|startswith", "/a", None, False),
        ("fieldref|endswith", "/a/b", "/b", True),
        ("fieldref|endswith", "/a/b", "/a", False),
        ("fieldref|contains", "/a/b/c", "/B", True),
        ("fieldref|contains", "/a", "/b", False),
        ("fieldref|neq", "/a", "/b", True),
        ("fieldref|neq", "/a", "/a", False),
    ],
)
def test_a_field_is_compared_with_another(tmp_path, modifiers, image, parent, expected):
    given = {"Image": image, "ParentImage": parent}
    fields = {name: value for name, value in given.items() if value is not None}
    assert fires(tmp_path, {f"Image|{modifiers}": "ParentImage"}, fields) is expected
    if parent is not None and "neq" not in modifiers:
        fields = {"Image": image, "ParentImage": ["/zz", parent]}
        assert fires(tmp_path, {f"Image|{modifiers}": "ParentImage"}, fields) is expected


def test_a_field_is_compared_with_each_element_of_a_list(tmp_path):
    entries = {"Image|fieldref": "ParentImages"}
    assert fires(tmp_path, entries, {"Image": "/a", "ParentImages": ["/b", "/a"]})
    assert not fires(tmp_path, entries, {"Image": "/a", "ParentImages": ["/b"]})
    entries = {"ParentImages|fieldref": "Image"}
    assert fires(tmp_path, entries, {"Image": "/a", "ParentImages": ["/b", "/a"]})
    assert not fires(tmp_path, entries, {"Image": "/a"})


def test_wide_text_in_base64_is_found_in_both_byte_orders(tmp_path):
    for modifier, encoding in (("wide", "utf-16le"), ("utf16be", "utf-16be")):
        text = "run " + b64encode(b"..." + "secret".encode(encoding)).decode()
        entries = {f"CommandLine|{modifier}|base64offset|contains": "secret"}
        assert fires(tmp_path, entries, {"CommandLine": text})
    entries = {"CommandLine|utf16|base64|contains": "secret"}
    text = b64encode(b"\xff\xfe" + "secret".encode("utf-16le")).decode()
    assert fires(tmp_path, entries, {"CommandLine": f"run {text}"})
