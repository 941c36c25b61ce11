# SPDX-License-Identifier: Apache-2.0
"""The word for what a kernel lets us hook."""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """Each has what the one before has."""

    TRACEPOINT = "tracepoint"
    """What was done is seen when the call returns; the process can be held there."""
    LSM = "lsm"
    """What is about to be done is seen, and can be refused."""
