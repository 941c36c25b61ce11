# SPDX-License-Identifier: Apache-2.0
"""What the monitor takes for itself before it needs it."""

from __future__ import annotations

import resource

from monitor.resident import open_as_many_as_may_be


def test_the_limit_of_descriptors_is_raised_as_far_as_it_goes():
    before = _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        open_as_many_as_may_be()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
