# SPDX-License-Identifier: Apache-2.0
"""Ordinary work of developers and their agents, as shell scripts; and what they start from.

Everything is made here and nothing comes from a network: the work has to be the same everywhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Work:
    """A shell script, and a program without which it cannot be done."""

    script: str
    needs: str = "sh"


SCRIPT_HEAD = """set -e
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
    "web": Work(
        """
mkdir site && echo page > site/index.html
cat > both.py << 'end'
import functools, http.server, threading, urllib.request
serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory="site")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
threading.Thread(target=server.serve_forever, daemon=True).start()
for _ in range(50):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/index.html") as answer:
        assert answer.read() == b"page\\n"
end
python3 both.py
"""
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


def furnish(home: Path) -> None:
    """What the scripts expect in their home."""
    (home / ".npmrc").write_text("//registry.localhost/:_authToken=none\n")
    (home / ".gitconfig").write_text("[init]\n    defaultBranch = main\n")
    (home / "many.py").write_text(_MANY)
    _wheel(home)
    _sdist(home)
    _packages(home)


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
