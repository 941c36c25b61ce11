# SPDX-License-Identifier: Apache-2.0
"""An agent's ordinary day, as what its model says: it looks around, writes, runs, mends, searches."""

from __future__ import annotations

from typing import Any

Turn = dict[str, Any]

_SHELL = [
    "ls -la && cat app.json many.py && head -n 3 /etc/os-release",
    "find . -name '*.py' | head; grep -rn import --include='*.py' . | head",
    "mkdir -p notes && git init -q notes && cd notes && printf '# Notes\\n' > README.md",
    """cat > notes/count.py <<'end'
import sys


def count(text):
    return len(text.split(','))


print(count(sys.stdin.read()))
end""",
    """cat > notes/test_count.py <<'end'
import subprocess, sys, unittest


class Count(unittest.TestCase):
    def test_words(self):
        done = subprocess.run([sys.executable, 'count.py'], input=b'a b c', capture_output=True)
        self.assertEqual(done.stdout, b'3\\n')
end""",
    "cd notes && python3 -m unittest -q test_count.py",
    """cd notes && sed -i "s/split(',')/split()/" count.py && python3 -m unittest -q test_count.py""",
    "cd notes && echo one two three | python3 count.py",
    "cd notes && git add -A && git -c user.name=a -c user.email=a@localhost commit -q -m count",
    "cd notes && git log --oneline && git status --short && git diff HEAD --stat",
    "cd notes && mv README.md index.md && mkdir -p old && cp count.py old/ && rm -r old",
    "python3 -m venv --without-pip env && env/bin/python -c 'print(6 * 7)' && rm -r env",
    "cc --version | head -n 1; echo 'int main(void) { return 0; }' > a.c && cc -o a a.c && ./a",
    "wc -l notes/*; du -sh notes; ps -e | wc -l; env | cut -d= -f1 | sort | head; date",
]
"""Command lines of its shell tool. The first try at the test fails."""

_CODE = [
    """from pathlib import Path
print(sorted(path.name for path in Path.cwd().iterdir()))""",
    """import json
from pathlib import Path
print(json.loads(Path('app.json').read_text()))""",
    """from pathlib import Path
lines = ['import csv, sys', 'print(sum(int(row[1]) for row in csv.reader(sys.stdin)))']
Path('table.py').write_text('\\n'.join(lines))
Path('table.csv').write_text('a,1\\nb,2')""",
    """import subprocess
print(subprocess.run(['python3', 'table.py'], input='a,1', text=True, capture_output=True))""",
    """from pathlib import Path
print([path for path in Path.cwd().rglob('*.py') if 'import' in path.read_text()])""",
    """import shutil, tempfile
with tempfile.TemporaryDirectory() as name:
    shutil.copy('table.py', name)
print('done')""",
]
"""Python that it runs in its own process."""


def _tools() -> list[Turn]:
    said: list[Turn] = [{"tool": "shell", "arguments": {"command": line}} for line in _SHELL]
    return [*said, {"tool": "final_answer", "arguments": {"answer": "done"}}]


def _code() -> list[Turn]:
    written = [*_CODE, 'final_answer("done")']
    return [{"text": f"Thought: the next step.\n<code>\n{code}\n</code>"} for code in written]


def _openclaw() -> list[Turn]:
    """The same work by the tools of OpenClaw, which has one for files and one for commands."""
    turns: list[Turn] = [{"tool": "exec", "arguments": {"command": line}} for line in _SHELL]
    text = "import csv, sys\nprint(sum(int(row[1]) for row in csv.reader(sys.stdin)))\n"
    turns[2:2] = [
        {"tool": "write", "arguments": {"path": "table.py", "content": text}},
        {"tool": "read", "arguments": {"path": "app.json"}},
        {"tool": "exec", "arguments": {"command": "echo a,1 | python3 table.py"}},
    ]
    return [*turns, {"text": "done"}]


AGENTS = {
    "smolagents-tools": ("tools", _tools()),
    "smolagents-code": ("code", _code()),
    "openclaw": ("openclaw", _openclaw()),
}
"""Recording -> the kind of agent (see `make.py`), and its model's turns."""
