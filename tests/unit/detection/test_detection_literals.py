# SPDX-License-Identifier: Apache-2.0
"""What an expression is known to need is there in whatever RE2 says that it matches."""

import pytest
import re2
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from monitor.detection.literals import literals, shortest
from monitor.detection.values import RE2_OPTIONS


@pytest.mark.parametrize(
    ("expression", "texts", "length"),
    [
        ("curl", {"curl"}, 4),
        ("CURL|wget", {"curl", "wget"}, 4),
        (r"^/usr/(?:bin|sbin)/nc\b", {"/usr/bin/nc", "/usr/sbin/nc"}, 11),
        ('.*(-(W|R)( |")(([0-9a-f]{2}) ){2,20}).*', {"-w ", '-w"', "-r ", '-r"'}, 9),
        (r"/(?:python|perl)[\d.]*$", {"/python", "/perl"}, 5),
        (r"\s+(?:--?\S+\s+)*estop\s", {"estop"}, 7),
        ("colou?r", {"color", "colour"}, 5),
        ("(?:ab+c)+", {"a"}, 3),
        ("[^/]{100,}$", set(), 100),
        ("a|.", set(), 1),
        ("(?i)Curl", {"curl"}, 4),
        ("(?i)sudo", {"udo"}, 4),  # U+017F is an `s` there
        ("é", set(), 1),
        ("[[:alpha:]]x", set(), 0),
        (r"\pLx", set(), 0),
        (r"\Qa.b\E", set(), 0),
    ],
)
def test_what_must_be_there(expression, texts, length):
    assert literals(expression) == texts
    assert shortest(expression) == length


def test_too_many_alternatives_are_none():
    assert not literals("|".join(f"{number}-word" for number in range(100)))


letters = st.sampled_from(
    ["a", "B", "k", "s", "/", r"\.", r"\-", "é", "\u017f", "[ab]", "[^a]", "[a-c]"]
)
other = st.sampled_from([".", r"\b", "^", "$", r"\w", r"\S", "[[:alpha:]]", "(?i:sK)", "(?-i:S)"])
how_often = st.sampled_from(["?", "*", "+", "{2}", "{0,1}", "{1,3}", "{,2}", "??", "*?", "+?"])
expressions = st.recursive(
    letters | other,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: f"({'|'.join(some)})"),
        st.tuples(inner, how_often).map(lambda both: f"(?:{both[0]}){both[1]}"),
    ),
    max_leaves=12,
)
flags = st.sampled_from(["", "(?i)", "(?s)", "(?im)"])
texts = st.text("aABbcks/.-é\u017fK\n{,2}", max_size=12)


@settings(deadline=None, max_examples=1000)
@given(flags, expressions, st.lists(texts, min_size=1, max_size=8))
@example("(?i)", "ks", ["K\u017f"])
@example("", "a{,2}", ["a{,2}"])
def test_re2_matches_nothing_without_it(flag, expression, some_texts):
    try:
        compiled = re2.compile(flag + expression, RE2_OPTIONS)
    except re2.error:
        assume(False)  # noqa: FBT003 -- so that hypothesis looks for another
    for text in filter(compiled.search, some_texts):
        assert len(text) >= shortest(flag + expression)
        needed = literals(flag + expression)
        assert not needed or any(one in text.lower() for one in needed)
