# SPDX-License-Identifier: Apache-2.0
"""The theatre in which every technique is tried, and what is said of them at the end of a run."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from table import Table
from theatre import Theatre

_SEEN = pytest.StashKey[Table]()


def pytest_addoption(parser):
    parser.addoption(
        "--write-table",
        action="store_true",
        help="put what was observed into the expectations and docs",
    )


def pytest_configure(config):
    config.stash[_SEEN] = Table.read()


@pytest.fixture(scope="session")
def theatre():
    if os.geteuid() != 0:
        pytest.skip("loads BPF: needs root")
    ground = Path(tempfile.mkdtemp(prefix="estop-evasion-"))
    ground.chmod(0o711)
    stage = Theatre(ground)
    try:
        yield stage
    finally:
        stage.close()
        shutil.rmtree(ground)


@pytest.fixture(scope="session")
def table(request):
    return request.config.stash[_SEEN]


def pytest_terminal_summary(terminalreporter, config):
    table = config.stash[_SEEN]
    for line in table.news():
        terminalreporter.write_line(line)
