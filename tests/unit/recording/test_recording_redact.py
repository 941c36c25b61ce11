# SPDX-License-Identifier: Apache-2.0
"""What looks like a secret is left out of a text, and nothing else is."""

import pytest

from monitor.recording.redact import LEFT_OUT, redacted

SECRET = "s3cr3t" * 6


OPTIONS = (
    *("password", "db-password", "passwd", "passphrase", "pass", "token", "github-token", "secret"),
    *("client_secret", "api-key", "apikey", "access-key", "access_key", "credential", "bearer"),
)
HEADERS = ("Authorization", "Proxy-Authorization", "X-Api-Key", "X-Auth-Token", "Cookie")
VARIABLES = (
    *("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PGPASSWORD", "MY_PASSWD", "API_KEY", "apikey"),
    *("ACCESS_KEY", "ACCESS_KEY_ID", "AccountKey", "CLIENT_SECRET"),
)
PREFIXES = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "npm_"),
    *("pypi-", "hf_", "dckr_pat_", "sk-", "sk-ant-", "sk_live_", "rk_live_", "AKIA", "ASIA"),
    *("AIza", "ya29."),
)


@pytest.mark.parametrize(
    "text",
    [
        *(f"tool --{option}={{}} -h host" for option in OPTIONS),
        *(f"tool --{option} {{}} -h host" for option in OPTIONS),
        *(f"curl -H '{header}: {{}}' https://example.org" for header in HEADERS),
        *(f"env {variable}={{}} tool" for variable in VARIABLES),
        *(f"say {prefix}{{}}" for prefix in PREFIXES),
        "curl -H 'Authorization: Bearer {}' https://example.org",
        "curl -u ann:{} https://example.org",
        "curl --user=ann:{} https://example.org",
        "curl --proxy-user ann:{} https://example.org",
        "sshpass -p {} ssh ann@host",
        "sshpass -p{} ssh ann@host",
        "https://example.org/?api_key={}&q=1",
        "git clone https://user:{}@example.org/repository",
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
        "rsync -p a b",
        "tool --passive mode",
        "monkey=1 hockey=2",
    ],
)
def test_other_words_stay(text):
    assert redacted(text) == text


def test_bytes_that_are_no_text_do_not_hide_a_secret():
    assert SECRET not in redacted(f"\udcff --token={SECRET}")
