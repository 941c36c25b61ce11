# SPDX-License-Identifier: Apache-2.0
"""What the monitor started with is put back when somebody took it."""

from __future__ import annotations

import resource

from monitor.response.protection import OwnLimits


def test_a_limit_that_was_lowered_is_put_back_and_named():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    own = OwnLimits()
    assert own.restore() == []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
        assert own.restore() in (["RLIMIT_NOFILE"], ["RLIMIT_OFILE"])  # one number, two names
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
