# SPDX-License-Identifier: Apache-2.0
"""Every error of estop's has a status and a stable name."""

from __future__ import annotations

from monitor import errors
from monitor.api.problems import STATUS, kind_of


def all_errors(base=errors.EstopError):
    yield base
    for derived in base.__subclasses__():
        if derived.__module__ == errors.__name__:
            yield from all_errors(derived)


def test_no_error_is_missing_from_the_table():
    assert set(all_errors()) == set(STATUS)


def test_the_names_of_problems_differ_and_are_stable():
    names = [kind_of(error) for error in STATUS]
    assert len(set(names)) == len(names)
    assert kind_of(errors.SessionNotFoundError) == "session-not-found"
