# SPDX-License-Identifier: Apache-2.0
"""A child that fails before it waits for the word: what is told of it, and that it is gone."""

from __future__ import annotations

import errno
import os

import psutil
import pytest

from agent import birth, hardening
from agent.birth import BirthError, Plan


@pytest.fixture
def child(monkeypatch):
    """A child whose guards fail with this error; nothing of it is left."""

    def conceive(error):
        def impose(_guards):
            raise error

        monkeypatch.setattr(hardening, "impose", impose)
        before = psutil.Process().children()
        with pytest.raises(BirthError) as told:
            birth.conceive(Plan(["/bin/true"], os.environ, None, ()))
        assert psutil.Process().children() == before
        return told.value

    return conceive


def test_the_exit_code_of_a_child_whose_guards_are_refused_is_a_shells(child):
    error = child(PermissionError(errno.EPERM, "Operation not permitted"))
    assert (error.code, str(error)) == (126, "/bin/true: Operation not permitted")


def test_a_child_that_ends_without_a_word_is_an_error_and_no_newborn(child):
    error = child(RuntimeError("a fault of ours"))
    assert error.code == 126
    assert str(error) == "/bin/true: its process ended at its birth"
