# SPDX-License-Identifier: Apache-2.0
"""What a monitor of the tests is started with: a developer's own settings do not count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SHARED = "ESTOP_CACHE_DIR"
"""Set for the whole run (`conftest.py`): the programs are compiled once, and not by each monitor."""


def environ(**settings: object) -> dict[str, str]:
    """The environment, with these settings and no others."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("ESTOP_") or k == _SHARED}
    return {**plain, **{f"ESTOP_{name.upper()}": str(value) for name, value in settings.items()}}


def kept(config: pytest.Config) -> Path:
    """Where kernel headers and compiled programs outlive a run of the tests."""
    return Path(config.getoption("compiled") or config.cache.mkdir("kernel-headers"))
