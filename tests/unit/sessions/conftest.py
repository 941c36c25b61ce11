# SPDX-License-Identifier: Apache-2.0
"""A directory to try things in."""

from __future__ import annotations

import pytest


@pytest.fixture
def here(tmp_path):
    return tmp_path.resolve()
