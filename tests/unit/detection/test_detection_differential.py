# SPDX-License-Identifier: Apache-2.0
"""The generated code says what Sigma means, on rules and facts that nobody thought of."""

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from ruletext import detecting
from sigma.rule import SigmaRule
from sigma_oracle import fires

from monitor.alerts import Level, Response, Rule
from monitor.detection import sigma
from monitor.detection.program import build
from monitor.detection.ruleset import Signature

FIELDS = ["TargetFilename", "Image", "Operation", "ProcessId"]
RULE = Rule(id="r", title="", level=Level.LOW, response=Response.LOG, category="file_event")

text = st.text("aAbB/.\n\\é", max_size=6)
wild = st.text("aAbB/.*?\\é", max_size=6)
regex = st.sampled_from(["a", "a.b", "^/a", "[^a]", "(a|B)+", ".", "b*", r"\.", "a?$|b"])
cidr = st.sampled_from(["10.0.0.0/8", "::ffff:0:0/96", "::/0", "192.0.2.1/32", "2001:db8::/32"])
address = st.sampled_from(
    ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "2001:db8::1", "::1", "x", ""]
)
number = st.integers(-2, 5)
scalar = st.one_of(wild, number, st.booleans(), st.none())


def entry(*modifiers, values, key="", many=True):
    """One `Field|modifier: value or values`."""
    wanted = st.lists(values, min_size=1, max_size=3) if many else values
    suffix = "".join("|" + m for m in modifiers) + key
    return st.tuples(st.sampled_from(FIELDS).map(lambda f: f + suffix), wanted)


entries = st.one_of(
    entry(values=scalar),
    entry(values=scalar, many=False),
    entry("cased", values=wild),
    *(entry(m, values=wild) for m in ("contains", "startswith", "endswith")),
    *(entry(m, "cased", values=wild) for m in ("contains", "startswith", "endswith")),
    entry("contains", "all", values=wild),
    entry("base64offset", "contains", values=st.text("ab", min_size=1, max_size=4)),
    entry("windash", values=st.sampled_from([" -a", "-b", "a -a -b"])),
    entry("re", values=regex),
    entry("re", "i", values=regex),
    entry("re", "s", "m", values=regex),
    entry("cidr", values=cidr),
    *(entry(m, values=number) for m in ("lt", "lte", "gt", "gte")),
    entry("neq", values=wild),
    entry("fieldref", values=st.sampled_from(FIELDS)),
    *(
        entry("fieldref", m, values=st.sampled_from(FIELDS))
        for m in ("contains", "startswith", "endswith", "neq")
    ),
    entry("exists", values=st.booleans(), many=False),
)
mapping = st.lists(entries, min_size=1, max_size=3).map(dict)
selection = st.one_of(mapping, st.lists(mapping, min_size=1, max_size=3))
CONDITIONS = [
    *("one and two", "one or two", "one and not two", "not (one or two)", "1 of *", "all of *"),
    *("not one or not two", "not (one and not two)"),
]
detections = st.fixed_dictionaries(
    {"one": selection, "two": selection, "condition": st.sampled_from(CONDITIONS)}
)
value = st.one_of(
    text,
    st.text("aAbB/.\udcff", max_size=6),
    address,
    number,
    st.booleans(),
    st.none(),
    st.sampled_from([" -a", "/a", "YWJh", "4.0"]),
    st.lists(st.one_of(text, number, st.none()), max_size=3),
)
facts = st.dictionaries(st.sampled_from(FIELDS), value)


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(detections, st.lists(facts, min_size=1, max_size=5))
@example(
    {"one": {"Image": ""}, "two": {"Image|contains": "a"}, "condition": "one or two"},
    [{}, {"Image": ""}, {"Image": []}, {"Image": ["b", ""]}],
)
def test_generated_code_agrees_with_the_plain_reading_of_sigma(detection, some_facts):
    parsed = SigmaRule.from_dict({**detecting({}), "detection": detection}, collect_errors=True)
    assume(not parsed.errors)
    program = build([Signature(RULE, sigma.condition(parsed))])
    for fields in some_facts:
        failures = []
        fired = program(fields, failures.append) == [RULE]
        assert not failures
        assert fired == fires(parsed, fields)
