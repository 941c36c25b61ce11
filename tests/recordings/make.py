# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.recordings.make [NAME...]`: record ordinary work as root, for the tests to replay.

Each recording is a session of a private monitor, in a home of its own. What they hold is told by
`estop record`: facts, no contents. Agents are real ones (`make setup-e2e`), whose model says a script.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from agent.private_monitor import ESTOP, private_monitor
from tests.e2e.claw import INSTALLED, PROGRAM, configure
from tests.e2e.work import SCRIPT_HEAD, WORK, furnish
from tests.recordings.agents import AGENTS

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
E2E = PROJECT / "tests" / "e2e"


def main(wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="estop-recording-") as name:
        place = Path(name)
        place.chmod(0o711)
        with private_monitor(place, "--listen", "") as monitor:
            for work in wanted or [*WORK, *AGENTS]:
                home = place / work
                home.mkdir()
                furnish(home)
                where = ["--runtime-dir", str(monitor.runtime_dir), "-o", str(place / "lines")]
                recorder = [str(ESTOP), "record", *where, "--name", work, "--"]
                # Not the tools of whoever records.
                environ = ["/usr/bin/env", f"HOME={home}", f"PATH={os.defpath}"]
                if work in AGENTS:
                    command = _agent(place, work, [*recorder, *environ])
                else:
                    script = place / f"{work}.sh"
                    script.write_text(SCRIPT_HEAD + WORK[work].script)
                    command = [*recorder, *environ, "/bin/sh", str(script)]
                # Pipes: a file that this is redirected to would be in the recording.
                pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
                done = subprocess.run(command, cwd=home, **pipes, check=False)
                if done.returncode:
                    sys.exit(f"{work}: {done.stderr.decode()}")
                _keep(place / "lines", HERE / f"{work}.jsonl")
                print(work, (HERE / f"{work}.jsonl").stat().st_size)


def _keep(lines: Path, recording: Path) -> None:
    """Without the name of whoever has an account here."""
    text = lines.read_text()
    for user in pwd.getpwall():
        if user.pw_dir.startswith("/home/"):
            text = text.replace(user.pw_dir, "/home/user")
    recording.write_text(text)


def _agent(place: Path, work: str, recorder: list[str]) -> list[str]:
    """The agent under a recorder, below its model, which is no part of the session."""
    kind, turns = AGENTS[work]
    script = place / f"{work}.json"
    script.write_text(json.dumps(turns))
    model = [sys.executable, "-P", str(E2E / "model_server.py"), str(script), "--"]
    if kind != "openclaw":
        return [*model, *recorder, *_smolagents(place, work, kind)]
    home = place / work
    # Without it 8,000 compiled files are read, each under two names.
    words = [f"TMPDIR={home}", "NODE_DISABLE_COMPILE_CACHE=1", *_openclaw(place, home)]
    # What it makes at its first start is no ordinary day.
    before = place / "hello.json"
    before.write_text(json.dumps([{"text": "hello"}]))
    unseen = [*model[:3], str(before), "--", *recorder[recorder.index("--") + 1 :], *words]
    subprocess.run(unseen, cwd=home, stdout=subprocess.DEVNULL, check=True)
    return [*model, *recorder, *words]


def _smolagents(place: Path, work: str, kind: str) -> list[str]:
    libraries, program = place / "env", place / "agent.py"
    if not libraries.exists():  # a copy: a recording tells real paths
        shutil.copytree(PROJECT / ".venv-e2e", libraries, symlinks=True)
    shutil.copy(E2E / "smol_agent.py", program)
    return [str(libraries / "bin/python"), str(program), kind, str(place / work)]


def _openclaw(place: Path, home: Path) -> list[str]:
    """The one that `make test-agents` installed, and its settings in the recording's home."""
    modules = place / "lib"
    # A link to each file: there are 800 MiB of them.
    shutil.copytree(INSTALLED, modules, symlinks=True, copy_function=os.link)
    configure(home, workspace=str(home))
    (node,) = modules.glob("node_modules/node-linux-*/bin/node")
    order = ["agent", "--local", "--session-id", "day", "--message", "Do your work."]
    return [str(node), str(modules / PROGRAM), *order]


if __name__ == "__main__":
    main(sys.argv[1:])
