# SPDX-License-Identifier: Apache-2.0
"""Ordinary work under watch: nobody is stopped or reported, nothing is lost, the exit code comes.

Everything is made here and nothing comes from a network: the work has to be the same everywhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pwd
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from supervised import Supervised, smol, supervised

from agent.private_monitor import Monitor, until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_JUDGED_S = 20.0


@dataclass(frozen=True, slots=True)
class Work:
    """A shell script, and a program without which it cannot be done."""

    script: str
    needs: str = "sh"


_SCRIPT_HEAD = """set -e
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@localhost
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@localhost
"""

WORK = {
    "git": Work(
        """
git init -q project && cd project
printf 'one\\n' > notes && git add notes && git commit -q -m first
for n in 1 2 3 4 5; do echo $n >> notes; git commit -q -a -m "change $n"; done
git checkout -q -b side HEAD~2 && echo side > other && git add other && git commit -q -m side
git merge -q -m merge - || git checkout -q -
git gc -q
cd .. && git clone -q project copied && cd copied
git log --oneline | grep -c change
echo more >> notes && git commit -q -a -m more && git push -q origin HEAD:refs/heads/pushed
"""
    ),
    "pip": Work(
        """
/usr/bin/python3 -m venv env
install="env/bin/pip install -q --no-index --disable-pip-version-check"
$install wheels/*.whl
$install sdists/*.tar.gz
env/bin/python -c 'import built, tiny; print(built.GREETING, tiny.GREETING)'
env/bin/pip uninstall -q -y tiny
"""
    ),
    "npm": Work(
        """
export npm_config_cache="$HOME/.npm" npm_config_update_notifier=false
for package in packages/*; do (cd $package && npm pack --silent --pack-destination ../..); done
mkdir app && cd app && cp ../app.json package.json
npm install --offline --no-audit --no-fund --silent
node -e 'console.log(require("first"), require("second"))'
npm run --silent greet
npm ci --offline --no-audit --no-fund --silent
""",
        needs="npm",
    ),
    "make": Work(
        """
mkdir built && cd built
for n in $(seq 20); do
    printf '#include <stdio.h>\\nint f%d(void) { return printf("%d\\\\n"); }\\n' $n $n > f$n.c
    objects="$objects f$n.o"
done
printf 'int f1(void);\\nint main(void) { return f1() < 0; }\\n' > main.c
printf 'all: main.o %s\\n\\tcc -o all $^\\n' "$objects" > Makefile
make -s -j2
./all
"""
    ),
    "python": Work(
        """
mkdir -p lib/pack tests
for n in $(seq 40); do echo "VALUE = $n" > lib/pack/m$n.py; done
python3 -m compileall -q lib
cp many.py tests/test_many.py
python3 -m unittest -q tests/test_many.py
"""
    ),
    "ssh-keygen": Work(
        """
mkdir -m 700 "$HOME/.ssh"
ssh-keygen -q -t ed25519 -N '' -C new -f "$HOME/.ssh/id_ed25519"
ssh-keygen -l -f "$HOME/.ssh/id_ed25519.pub"
cat "$HOME/.ssh/id_ed25519.pub"
""",
        needs="ssh-keygen",
    ),
    "looking": Work(
        """
grep -c localhost /etc/hosts
cat /etc/hosts /etc/passwd /etc/group /etc/resolv.conf /etc/nsswitch.conf > /dev/null
getent hosts localhost
id && ls -la "$HOME" /etc > /dev/null
find /usr/include /etc -type f 2> /dev/null | wc -l
env | sort > /dev/null && df > /dev/null && cat /proc/self/status > /dev/null
"""
    ),
}

_MANY = """
import subprocess, unittest
class Many(unittest.TestCase):
    def test_short_processes(self):
        for number in range(300):
            said = subprocess.run(["echo", str(number)], capture_output=True, check=True).stdout
            self.assertEqual(said, b"%d\\n" % number)
"""


@pytest.fixture
def workplace(place: Path, user: pwd.struct_passwd) -> Path:
    """A home with what the scripts start from; named as its session."""
    home = place / "home"
    (home / ".npmrc").write_text("//registry.localhost/:_authToken=none\n")
    (home / ".gitconfig").write_text("[init]\n    defaultBranch = main\n")
    (home / "many.py").write_text(_MANY)
    _wheel(home)
    _sdist(home)
    _packages(home)
    for directory, _, files in os.walk(home):
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            os.chown(path, user.pw_uid, user.pw_gid)
    return place


@pytest.mark.parametrize("name", WORK)
def test_ordinary_work_ends_well_without_an_alert_or_a_lost_event(monitor, workplace, user, name):
    work = WORK[name]
    if shutil.which(work.needs) is None:
        pytest.skip(f"{work.needs} is not installed")
    script = workplace / "work.sh"
    script.write_text(f"{_SCRIPT_HEAD}{work.script}touch ~/all-done\n")
    # Somebody else's process is given their home; this work must not touch it.
    command = ["/usr/bin/env", f"HOME={workplace / 'home'}", "/bin/sh", str(script)]
    with supervised(monitor, workplace, user, command, []) as agent:
        assert agent.await_end() == 0, agent.output
        assert (workplace / "home" / "all-done").exists(), agent.output
        assert reported(agent) == []
        assert_all_was_seen(monitor, agent)


def test_a_real_agent_that_does_ordinary_work_is_left_alone(monitor, workplace, user):
    command = _SCRIPT_HEAD + WORK["git"].script + WORK["looking"].script + "touch ~/all-done\n"
    turns = [
        {"tool": "shell", "arguments": {"command": command}},
        {"tool": "final_answer", "arguments": {"answer": "done"}},
    ]
    with supervised(monitor, workplace, user, smol(workplace, "tools"), turns) as agent:
        assert agent.await_end() == 0, agent.output
        assert (workplace / "home" / "all-done").exists(), agent.output
        assert reported(agent) == []
        assert_all_was_seen(monitor, agent)


def reported(agent: Supervised) -> list[tuple[str, dict[str, Any]]]:
    """Alerts that a person would be shown: what is only logged is not among them."""
    # The monitor removes the cgroup once it has judged the last event.
    assert until(lambda: not Path(agent.session["cgroup"]).exists(), _JUDGED_S)
    alerts = agent.monitor.alerts(agent.name)
    return [(a["rule"]["title"], a["event"]) for a in alerts if a["response"] != "log"]


def assert_all_was_seen(monitor: Monitor, agent: Supervised) -> None:
    session = agent.session
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


def _wheel(home: Path) -> None:
    """The smallest wheel pip accepts: what a project's own package is to its agent."""
    files = {
        "tiny.py": "GREETING = 'installed'\n",
        "tiny-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n",
        "tiny-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    (home / "wheels").mkdir()
    _write_wheel(home / "wheels" / "tiny-1-py3-none-any.whl", files)


def _write_wheel(path: Path, files: dict[str, str]) -> None:
    info = next(name for name in files if name.endswith("/WHEEL")).removesuffix("WHEEL")
    record = "".join(f"{name},{_digest(text)},{len(text)}\n" for name, text in files.items())
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}RECORD", f"{record}{info}RECORD,,\n")


def _digest(text: str) -> str:
    raw = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# Newer Pythons give a new environment no setuptools, and there is no index to fetch one from.
_BACKEND = """
import zipfile

FILES = {
    "built.py": "GREETING = 'built'\\n",
    "built-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: built\\nVersion: 1\\n",
    "built-1.dist-info/WHEEL":
        "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "built-1.dist-info/RECORD": "",
}

def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "built-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
    return name
"""


def _sdist(home: Path) -> None:
    """A source package that brings its own builder."""
    project = (
        '[build-system]\nrequires = []\nbuild-backend = "builder"\nbackend-path = ["."]\n'
        '[project]\nname = "built"\nversion = "1"\n'
    )
    files = {
        "pyproject.toml": project,
        "builder.py": _BACKEND,
        "PKG-INFO": "Metadata-Version: 2.1\nName: built\nVersion: 1\n",
    }
    (home / "sdists").mkdir()
    with tarfile.open(home / "sdists" / "built-1.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"built-1/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def _packages(home: Path) -> None:
    """Three packages that depend on each other, with a program and an install script, and an app."""
    third = {"name": "third", "version": "1.0.0"}
    first = {
        "name": "first",
        "version": "1.0.0",
        "bin": {"greet": "index.js"},
        "scripts": {"install": "node index.js"},
        "dependencies": {"third": f"file:{home}/third-1.0.0.tgz"},
    }
    second = {"name": "second", "version": "1.0.0", "main": "index.js"}
    for package in (first, second, third):
        directory = home / "packages" / str(package["name"])
        directory.mkdir(parents=True)
        (directory / "package.json").write_text(json.dumps(package))
        for number in range(20):
            (directory / f"part{number}.js").write_text(f"module.exports = {number}\n")
        (directory / "index.js").write_text(
            "#!/usr/bin/env node\nmodule.exports = require('./part1')\n"
        )
    names = ("first", "second", "third")
    app = {
        "name": "app",
        "version": "1.0.0",
        "scripts": {"greet": "greet"},
        "dependencies": {name: f"file:../{name}-1.0.0.tgz" for name in names},
    }
    (home / "app.json").write_text(json.dumps(app))
