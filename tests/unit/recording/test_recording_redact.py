# SPDX-License-Identifier: Apache-2.0
"""What looks like a secret is left out of a text, and nothing else is."""

import pytest

from monitor.recording.redact import LEFT_OUT, redacted

SECRET = "s3cr3t" * 6


@pytest.mark.parametrize(
    "text",
    [
        "mysql --password={}",
        "mysql --password {} -h host",
        "tool --api-key {}",
        "tool --github-token={}",
        "curl -H 'Authorization: Bearer {}' https://example.org",
        "curl -H 'X-Api-Key: {}'",
        "env AWS_SECRET_ACCESS_KEY={} aws s3 ls",
        "GITHUB_TOKEN={}",
        "https://example.org/?api_key={}&q=1",
        "git clone https://user:{}@example.org/repository",
        "say ghp_{}",
        "say sk-{}",
        "say AKIA{}",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.{}",
    ],
)
def test_a_secret_is_left_out(text):
    clean = redacted(text.format(SECRET))
    assert SECRET not in clean
    assert LEFT_OUT in clean


@pytest.mark.parametrize(
    "text",
    [
        "git commit -m 'rotate the token'",
        "npm install --no-audit",
        "/home/ann/.config/token/file",
        "https://example.org:8080/path?q=1",
        "ssh-keygen -t ed25519 -N '' -f /home/ann/.ssh/id_ed25519",
        "python3 -c 'print(1)'",
    ],
)
def test_other_words_stay(text):
    assert redacted(text) == text


def test_bytes_that_are_no_text_do_not_hide_a_secret():
    assert SECRET not in redacted(f"\udcff --token={SECRET}")
