# SPDX-License-Identifier: Apache-2.0
"""What looks like a secret in a text, left out; by the forms that programs document for theirs.

A command line is the one place where a recording could hold one: files are told by name only.
"""

from __future__ import annotations

import re2

LEFT_OUT = "[left out]"

_AFTER_A_NAME = (
    (
        r"(?i)(--?(?:[a-z0-9]+[-_])*"
        r"(?:password|passwd|passphrase|pass|token|secret|api[-_]?key|access[-_]?key|credential|bearer)"
        r"[= ]+)[^\s\"']+"
    ),
    # curl's, and what is like it; sshpass
    r"((?:^|\s)(?:-u|--user|--proxy-user)[= ]*[^\s:\"']+:)[^\s\"']+",
    r"(\bsshpass +-p *)[^\s\"']+",
    r"(?i)((?:authorization|x-api-key|x-auth-token|cookie): *)[^\"'\r\n]+",
    r"(?i)\b([a-z0-9_]*(?:token|secret|password|passwd|api_?key|(?:access|account)_?key)[a-z0-9_]*=)[^\s\"'&]+",
    r"(?i)([a-z][a-z0-9+.-]*://)[^/\s:@\"']+:[^/\s@\"']+@",
)
_BY_ITSELF = (
    # GitHub, GitLab, Slack, npm, PyPI, Hugging Face, Docker, OpenAI and Anthropic, Stripe, AWS, Google;
    # a JSON Web Token.
    (
        r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|npm_|pypi-|hf_|dckr_pat_|sk-|sk_live_"
        r"|rk_live_|AKIA|ASIA|AIza|ya29\.)[A-Za-z0-9_.-]{12,}"
    ),
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
)
_NAMED = [re2.compile(pattern) for pattern in _AFTER_A_NAME]
_PLAIN = [re2.compile(pattern) for pattern in _BY_ITSELF]


def redacted(text: str) -> str:
    """The text without what looks like a secret."""
    for pattern in _NAMED:
        text = pattern.sub(r"\1" + LEFT_OUT, _taken(text))
    for pattern in _PLAIN:
        text = pattern.sub(LEFT_OUT, text)
    return text


def _taken(text: str) -> str:
    """RE2 reads UTF-8: undecodable bytes, which are lone surrogates here, become a question mark."""
    return text.encode("utf-8", "replace").decode()
