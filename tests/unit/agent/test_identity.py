# SPDX-License-Identifier: Apache-2.0
"""As whom an agent runs."""

from __future__ import annotations

import pytest

from agent.identity import Identity, IdentityError, choose, environment

NOBODY = Identity.of("nobody")


def test_root_behind_sudo_becomes_the_caller():
    assert choose(None, {"SUDO_USER": "nobody"}, 0) == NOBODY


def test_the_named_user_goes_before_the_caller_of_sudo():
    assert choose("root", {"SUDO_USER": "nobody"}, 0) is None


def test_root_alone_stays_root():
    assert choose(None, {}, 0) is None


def test_a_plain_user_stays_who_it_is_whatever_sudo_user_says():
    assert choose(None, {"SUDO_USER": "root"}, 1000) is None


def test_a_plain_user_cannot_name_another():
    with pytest.raises(IdentityError, match="only root"):
        choose("nobody", {}, 1000)


def test_a_user_may_be_given_as_a_number():
    assert Identity.of(str(NOBODY.uid)) == NOBODY


def test_the_environment_keeps_what_is_not_about_the_user():
    made = environment(NOBODY, {"HOME": "/root", "API_KEY": "k"})
    assert (made["HOME"], made["USER"], made["API_KEY"]) == (NOBODY.home, "nobody", "k")
