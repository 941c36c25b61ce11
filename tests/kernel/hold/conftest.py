# SPDX-License-Identifier: Apache-2.0
"""Candidates are held on both tiers, what is certain on one."""

from __future__ import annotations

import pytest

from monitor.tier import Tier


@pytest.fixture
def certainty_holds(kernel):
    """Elsewhere what is certain is refused: tests/kernel/lsm."""
    if kernel.tier is not Tier.TRACEPOINT:
        pytest.skip("what is certain is refused here, not held")
