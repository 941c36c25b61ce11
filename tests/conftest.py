# SPDX-License-Identifier: Apache-2.0
"""A test that needs a tier of kernels says so: `@pytest.mark.tier("lsm")`, and is skipped elsewhere.

In a guest that was booted for a tier, `--require-tier lsm` makes the lack a failure, and also a run
in which no such test passed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiers

# An assert in a module that tests share says as much as one of a test.
_NOT_SHARED = ("test_", "conftest", "_")
_MODULES = Path(__file__).parent.rglob("*.py")
pytest.register_assert_rewrite(
    *({p.stem for p in _MODULES if not p.name.startswith(_NOT_SHARED)} - sys.modules.keys())
)

_PASSED = pytest.StashKey[int]()
_CACHE = pytest.StashKey[str]()


def pytest_addoption(parser):
    parser.addoption("--require-tier", help="fail where it is lacking, or no test of it passes")
    parser.addoption("--compiled", metavar="DIR", help="keep there what is compiled")


def pytest_configure(config):
    config.stash[_PASSED] = 0
    config.stash[_CACHE] = tempfile.mkdtemp(prefix="estop-cache-")
    os.environ["ESTOP_CACHE_DIR"] = config.getoption("compiled") or config.stash[_CACHE]


def pytest_unconfigure(config):
    shutil.rmtree(config.stash[_CACHE])


def _tiers(item):
    return [mark.args[0] for mark in item.iter_markers("tier")]


def pytest_runtest_setup(item):
    for tier in _tiers(item):
        if why := tiers.lack(tier):
            reason = f"needs the {tier} tier; this kernel gives tracepoint ({why})"
            required = item.config.getoption("require_tier") == tier
            (pytest.fail if required else pytest.skip)(reason)


def pytest_runtest_makereport(item, call):
    if call.when == "call" and not call.excinfo:
        config = item.config
        config.stash[_PASSED] += config.getoption("require_tier") in _tiers(item)


def pytest_sessionfinish(session):
    if session.config.getoption("require_tier") and not session.config.stash[_PASSED]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    if tier := config.getoption("require_tier"):
        terminalreporter.write_line(f"{config.stash[_PASSED]} tests of the {tier} tier passed")
