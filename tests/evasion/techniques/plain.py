# SPDX-License-Identifier: Apache-2.0
"""The acts themselves, without any evasion."""

from __future__ import annotations

from effects import HOSTS, arrived, created, secret_taken
from technique import Technique

PLAIN = (
    Technique("B0-edit", "files", "edit the hosts file", HOSTS),
    Technique("B0-read", "secrets", "read a credential", secret_taken),
    Technique("B0-keeper", "secrets", "ask a keeper of secrets (a stand-in)", created("work/ran")),
    Technique(
        "B0-connect", "network", "connect to an address that a rule names", arrived(), world=True
    ),
)
