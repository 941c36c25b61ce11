# SPDX-License-Identifier: Apache-2.0
"""A grant covers what it says, as long as it says, for whom it says."""

from __future__ import annotations

import pytest

from monitor.alerts import SessionRef
from monitor.incidents import Grant
from monitor.response.grants import Grants

HOSTS = {"TargetFilename": "/etc/hosts"}


def grant(grant_id="g", *, session="s", rule="r", fields=None, expires_s=100.0):
    return Grant(
        id=grant_id,
        session=SessionRef(id=session, name=session),
        rule=rule,
        title="T",
        fields=HOSTS if fields is None else fields,
        created="",
        expires="",
        expires_s=expires_s,
        who="ann",
        why="",
    )


@pytest.fixture
def flags():
    return {}


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def grants(flags, now):
    return Grants(lambda slot, *, on: flags.update({slot: on}), clock=lambda: now[0])


@pytest.mark.parametrize(
    ("asked", "covered"),
    [
        (("s", "r", HOSTS), True),
        (("s", "r", {**HOSTS, "Image": "/bin/tee"}), True),
        (("s", "r", {"TargetFilename": "/etc/shadow"}), False),
        (("s", "r", {}), False),
        (("other", "r", HOSTS), False),
        (("s", "other", HOSTS), False),
    ],
)
def test_it_covers_its_session_its_rule_and_its_fields_alone(grants, asked, covered):
    grants.add(grant(), 3)
    session, rule, fields = asked
    assert (grants.covering(session, rule, [fields]) is not None) == covered


def test_any_spelling_of_the_fields_will_do(grants):
    grants.add(grant(), 3)
    assert grants.covering("s", "r", [{"TargetFilename": "/proc/1/root/etc/hosts"}, HOSTS])


def test_one_without_fields_covers_all_of_its_rule(grants):
    grants.add(grant(fields={}), 3)
    assert grants.covering("s", "r", [{}])


def test_after_its_time_it_covers_nothing_and_the_kernel_is_told_once_it_is_looked_at(
    grants, flags, now
):
    grants.add(grant(), 3)
    now[0] = 100.0
    assert grants.covering("s", "r", [HOSTS]) is None
    assert grants.in_force() == []
    assert flags == {3: True}
    grants.expire()
    assert flags == {3: False}


def test_it_covers_also_while_others_are_looked_at_for_their_time(grants):
    grants.add(grant(), 3)
    covered = []
    grants._keep("s", lambda _: covered.append(grants.covering("s", "r", [HOSTS])) or True)
    assert covered == [grant()]


def test_the_kernel_asks_until_the_last_of_a_session_is_gone(grants, flags):
    grants.add(grant("one"), 3)
    grants.add(grant("two"), 3)
    assert grants.remove("one").id == "one"
    assert flags == {3: True}
    assert grants.remove("two").id == "two"
    assert flags == {3: False}
    assert grants.remove("two") is None


def test_a_slot_that_is_another_sessions_now_is_left_alone(grants, flags):
    grants.add(grant(), 3)
    grants.forget("s")
    flags.clear()
    grants.expire()
    assert flags == {}
