# SPDX-License-Identifier: Apache-2.0
"""A monitor's kernel side of its own, which a test may close and load the next one in its place."""

from __future__ import annotations

import pytest
from laboratory import Laboratory

from monitor.capture.kernel import load
from monitor.capture.pins import unload
from monitor.sessions import cgroups


@pytest.fixture
def settings(kernel_settings):
    """Of a monitor of its own, which leaves nothing behind whatever happens to the test."""
    settings = kernel_settings(events_ring_mib=1)
    yield settings
    unload(settings.runtime_dir)


@pytest.fixture
def first(settings, tmp_path):
    """Its laboratory. The test may close the kernel side, and load the next one in its place."""
    laboratory = Laboratory(load(settings), cgroups.find_root(), tmp_path)
    yield laboratory
    laboratory.close()
    laboratory.kernel.close()
