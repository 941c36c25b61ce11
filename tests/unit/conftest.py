# SPDX-License-Identifier: Apache-2.0
"""A record to write to."""

from __future__ import annotations

import pytest

from monitor.record.store import Store


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(directory):
    opened = Store(directory / "alerts.db")
    yield opened
    opened.close()
