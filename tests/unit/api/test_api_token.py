# SPDX-License-Identifier: Apache-2.0
"""The bearer token is made once, kept private, and refused when it is not."""

from __future__ import annotations

import pytest

from monitor.api.token import load_token
from monitor.errors import ConfigError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "token"


def test_a_token_is_made_once_and_kept(path):
    first = load_token(path)
    assert len(first) >= 43
    assert load_token(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["token"]


def test_two_monitors_have_different_tokens(tmp_path):
    assert load_token(tmp_path / "a" / "token") != load_token(tmp_path / "b" / "token")


def test_a_token_that_others_may_read_is_refused(path):
    load_token(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read") as caught:
        load_token(path)
    assert str(path) in caught.value.mend


@pytest.mark.parametrize("text", ["", "short\n"])
def test_a_token_too_short_to_be_safe_is_refused(path, text):
    load_token(path)
    path.write_text(text)
    with pytest.raises(ConfigError, match="too short"):
        load_token(path)


def test_a_link_in_the_tokens_place_is_not_followed(path, tmp_path):
    path.parent.mkdir(mode=0o700)
    (tmp_path / "elsewhere").write_text("x" * 43)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot read"):
        load_token(path)


def test_a_leftover_of_a_crash_does_not_matter(path):
    path.parent.mkdir(mode=0o700)
    path.with_suffix(".new").write_text("half")
    assert load_token(path) != "half"
