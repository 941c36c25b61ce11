# SPDX-License-Identifier: Apache-2.0
"""An agent whose program is large: its copy is told when it runs, whatever else has to be compared."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.private_monitor import Monitor, until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_RUN = "84f575a8-52d7-42eb-9c44-67539f5abece"  # rules/self-replication/self_copy_run.yml
_LIKE_IT = "for n in 1 2 3 4 5 6 7 8 9 10; do head -c -1 < {agent} > d$n; printf x >> d$n; done"


@pytest.fixture
def scratch(ground: Path):
    directory = Path(f"{ground}/large-{time.monotonic_ns()}")
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def _large(scratch: Path, size_mib: int) -> Path:
    """A shell of so many MiB, as programs are that bring their runtime along."""
    agent = scratch / "claw"
    shutil.copy("/bin/dash", agent)
    with agent.open("ab") as file:
        file.write(b"runtime " * (1 << 17) * size_mib)
    return agent


def _told_of(monitor: Monitor, stack: ExitStack, agent: Path, script: str) -> set[str]:
    """What was done about its copy, once it is stopped or has come to its end."""
    name, ended = agent.parent.name, agent.parent / "ended"
    words = [str(agent), "-c", f"echo begins; {script}; : > {ended}; sleep 600"]
    process = stack.enter_context(
        subprocess.Popen(
            [*monitor.run_command(name), *words], cwd=agent.parent, stdout=subprocess.PIPE
        )
    )
    stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begins\n"
    stack.callback(monitor.act, name, "kill", "the test is over")
    assert until(lambda: ended.exists() or monitor.session(name)["state"] == "frozen", 60)
    alerts = monitor.alerts(name)
    return {alert["outcome"]["action"] for alert in alerts if alert["rule"]["id"] == _RUN}


def test_a_large_program_that_is_copied_and_run_is_stopped(monitor, scratch):
    agent = _large(scratch, 200)
    with ExitStack() as stack:
        script = f"cp {agent} copy; ./copy -c 'sleep 600' & sleep 5"
        assert _told_of(monitor, stack, agent, script) == {"frozen"}


def test_a_copy_that_runs_beside_files_much_like_it_is_stopped(monitor, scratch):
    """They are more than are compared at once, and it has no name any more when it is its turn."""
    agent = _large(scratch, 64)
    with ExitStack() as stack:
        script = (
            f"{_LIKE_IT.format(agent=agent)}; cp {agent} copy; "
            "env true d1 d2 d3 d4 d5 d6 d7 d8 d9 d10; "
            "./copy -c 'rm copy; sleep 600' & sleep 5"
        )
        assert "frozen" in _told_of(monitor, stack, agent, script)


def test_who_has_many_files_much_like_it_compared_goes_on_and_comes_to_its_end(monitor, scratch):
    agent = _large(scratch, 64)
    with ExitStack() as stack:
        script = f"{_LIKE_IT.format(agent=agent)}; env true d1 d2 d3 d4 d5 d6 d7 d8 d9 d10"
        assert _told_of(monitor, stack, agent, script) == set()
        assert (scratch / "ended").exists()
