# SPDX-License-Identifier: Apache-2.0
"""Ordinary work under watch: nobody is stopped, nothing is lost, the exit code comes through."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest
from supervised import smol, supervised

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_WORK = """set -e
git init -q project && cd project
printf '#include <stdio.h>\\nint main(void) {{ puts("compiled"); return 0; }}\\n' > hello.c
git add hello.c
git -c user.name=a -c user.email=a@localhost commit -q -m first
gcc -o hello hello.c && ./hello
/usr/bin/python3 -m venv env
env/bin/pip install -q --no-index --disable-pip-version-check {wheel}
env/bin/python -c 'import tiny; print(tiny.GREETING)'
grep -c localhost /etc/hosts
touch ~/all-done"""


def test_git_pip_gcc_and_a_look_at_the_hosts_file_stop_nobody_and_lose_nothing(
    monitor, place, user
):
    command = _WORK.format(wheel=_wheel(place / "home"))
    turns = [
        {"tool": "shell", "arguments": {"command": command}},
        {"tool": "final_answer", "arguments": {"answer": "done"}},
    ]
    with supervised(monitor, place, user, smol(place, "tools"), turns) as agent:
        code = agent.await_end()
        assert code == 0, agent.output
        assert (place / "home" / "all-done").exists(), agent.output
        session = agent.session
        stopping = [a for a in monitor.alerts(agent.name) if a["response"] in {"freeze", "kill"}]
    assert stopping == []
    assert session["state"] == "exited"
    assert session["events"] > 0
    health = monitor.health()
    assert set(health["lost"].values()) <= {0}
    assert health["problems"] == []


@pytest.mark.parametrize("code", [0, 7])
def test_the_exit_code_and_the_output_of_a_command_come_through(monitor, place, code):
    done = subprocess.run(
        [*monitor.run_command(place.name), "sh", "-c", f"cat; exit {code}"],
        input="said\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "said\n"), done.stderr


def test_a_command_starts_in_the_cgroup_of_its_session(monitor, place):
    done = subprocess.run(
        [*monitor.run_command(place.name), "cat", "/proc/self/cgroup"],
        capture_output=True,
        text=True,
        check=True,
    )
    own = next(line for line in done.stdout.splitlines() if line.startswith("0::"))
    assert monitor.session(place.name)["cgroup"].endswith(own.removeprefix("0::"))


def _wheel(directory: Path) -> Path:
    """The smallest wheel pip accepts: what a project's own package is to its agent."""
    files = {
        "tiny.py": "GREETING = 'installed'\n",
        "tiny-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n",
        "tiny-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},{_digest(text)},{len(text)}\n" for name, text in files.items())
    path = directory / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr("tiny-1.dist-info/RECORD", record + "tiny-1.dist-info/RECORD,,\n")
    path.chmod(0o644)
    return path


def _digest(text: str) -> str:
    raw = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
