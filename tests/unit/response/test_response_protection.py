# SPDX-License-Identifier: Apache-2.0
"""What of the monitor is guarded without any rule; what it started with is put back when somebody took it."""

from __future__ import annotations

import resource
from pathlib import Path

from monitor.lowered import Act, Where
from monitor.response.protection import OwnLimits, own_watches


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


def test_what_is_set_of_our_process_is_guarded_wherever_a_procfs_is_mounted():
    watches = {(watch.where, watch.path): watch for watch in own_watches([Path("/proc/812")])}
    assert watches[Where.BELOW, "/proc/812/"].hold & Act.WRITE
    assert watches[Where.ENDING, "/812/oom_score_adj"].certain == Act.WRITE


def test_what_is_guarded_may_be_read_and_a_secret_may_not(tmp_path):
    below, secret = Where.BELOW, Where.EXACT
    watches = {
        (watch.where, watch.path): watch for watch in own_watches([tmp_path], [tmp_path / "key"])
    }
    assert not watches[below, f"{tmp_path}/"].hold & Act.READ
    assert watches[secret, f"{tmp_path}/key"].hold & Act.READ
