# SPDX-License-Identifier: Apache-2.0
"""A directory to try things in, and agents that lie in it."""

from __future__ import annotations

import pytest
from agent_code import CODE


@pytest.fixture
def here(tmp_path):
    return tmp_path.resolve()


@pytest.fixture
def script(here):
    (here / "agent.py").write_text(CODE)
    return here / "agent.py"


@pytest.fixture
def package(here):
    home = here / "deep" / "down" / "agent"
    (home / "bin").mkdir(parents=True)
    (home / "package.json").write_text("{}" + " " * 60)
    (home / "bin" / "run.js").write_text(CODE)
    (home / "node_modules" / "shared").mkdir(parents=True)
    (home / "node_modules" / "shared" / "index.js").write_text(CODE + "// everybody's")
    return home
