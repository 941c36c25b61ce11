# SPDX-License-Identifier: Apache-2.0
"""A gate with its gatekeeper, and a file to watch."""

from __future__ import annotations

import pytest
from gates import guarding

from monitor.capture.opengate import OpenGate
from monitor.errors import CaptureError


@pytest.fixture
def file(scratch):
    path = scratch / "watched"
    path.write_text("content")
    return path


@pytest.fixture
def guard(kernel):
    try:
        OpenGate().close()
    except CaptureError as error:
        pytest.skip(str(error))
    with guarding(kernel) as guard:
        yield guard
