# SPDX-License-Identifier: Apache-2.0
"""`estop record`: from the first act of a command, or of a session that runs, to its end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.private_monitor import ESTOP, until
from monitor.recording.lines import read

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


def record(monitor, output, *words):
    return [ESTOP, "record", "--runtime-dir", monitor.runtime_dir, "-o", output, *words]


def facts(output):
    _, happenings = read(output)
    return [fact for happening in happenings for fact in happening.facts]


def test_a_command_is_recorded_from_its_first_act_and_ends_as_it_ends(monitor, place):
    output = place / "command.jsonl"
    script = f"cat {place}/etc/hostname >/dev/null; exit 7"
    done = subprocess.run(
        [*record(monitor, output, "--name", place.name), "--", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    header, _ = read(output)
    assert (header.session, header.argv) == (place.name, ("sh", "-c", script))
    found = facts(output)
    assert found[0].category == "process_creation"
    assert found[0].fields["CommandLine"] == f"sh -c {script}"
    paths = {fact.fields.get("TargetFilename") for fact in found}
    assert f"{place}/etc/hostname" in paths
    assert found[-1].category == "process_termination"


def test_a_session_is_recorded_from_then_on_until_it_ends(monitor, place):
    output = place / "session.jsonl"
    code = "import sys; [open(line.strip()).close() for line in sys.stdin]"
    command = [*monitor.run_command(place.name), sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as agent:
        assert until(lambda: place.name in {s["name"] for s in monitor.get("/sessions")}, 10)
        with subprocess.Popen(record(monitor, output, "--session", place.name)) as recorder:
            assert until(lambda: output.exists() and output.stat().st_size > 0, 10)
            print(place / "etc" / "hostname", file=agent.stdin, flush=True)
            agent.stdin.close()
            assert recorder.wait(20) == 0
    assert str(place / "etc" / "hostname") in {
        f.fields.get("TargetFilename") for f in facts(output)
    }


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--session", "no-such"), 1, "no-such"),
        ((), 2, "give either"),
        (("--session", "a", "--", "true"), 2, "give either"),
    ],
)
def test_what_cannot_be_recorded_is_said(monitor, tmp_path, words, status, said):
    done = subprocess.run(
        record(monitor, tmp_path / "r", *words), capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert said in done.stderr
