# SPDX-License-Identifier: Apache-2.0
"""Every technique against a real monitor: what comes of it is no worse than the table says."""

from __future__ import annotations

import pytest
from catalogue import TECHNIQUES
from table import NOT_HERE
from technique import Outcome

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]


@pytest.mark.parametrize("name", TECHNIQUES)
def test_what_comes_of_it_is_no_worse_than_the_table_says(theatre, table, request, name):
    technique = TECHNIQUES[name]
    observation = theatre.perform(technique)
    tier = theatre.monitor().health()["tier"]
    table.note(tier, observation)
    if request.config.getoption("write_table", default=False):
        table.write()  # a run of an hour may be ended before its last line
        return
    if observation.outcome is None:
        pytest.skip(f"not applicable here: {observation.why}")
    expected = table.expected.get(name, {}).get(tier)
    assert expected is not None, f"the table says nothing of {name} on the {tier} tier"
    if expected.startswith(
        NOT_HERE
    ):  # nobody knew until now; whether it is known that it is missed
        assert technique.gap or observation.outcome is not Outcome.MISSED, (
            "missed, without a reason"
        )
        return
    # An open is refused on the tracepoint tier once its file is marked, which takes a moment after
    # the session made it; until then it is held. Both are what is promised.
    promised = min(Outcome(expected).rank, Outcome.HELD.rank)
    assert observation.outcome.rank >= promised, (
        f"{technique.what}: {observation.outcome.value}, and was {expected}; noticed by "
        f"{', '.join(observation.titles) or 'nobody'}"
    )


def test_every_function_of_the_programs_is_in_the_catalogue_and_the_other_way_round(theatre):
    helpers = {"X0-edit", "X0-read"}
    assert theatre.known() - helpers == set(TECHNIQUES)
