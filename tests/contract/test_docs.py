# SPDX-License-Identifier: Apache-2.0
"""What the documents say of the program agrees with the program."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from monitor import housekeeper, supervisor
from monitor.alerts import Rule
from monitor.cli.main import COMMANDS
from monitor.cli.main import estop as command
from monitor.config import Settings

PROJECT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```.*?\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
PAGES = (PROJECT / "README.md", PROJECT / "docs" / "desk.md")


def _code(text):
    """Lines of code blocks, and code between words."""
    for block in _BLOCK.findall(text):
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text))


def _words(name):
    """`estop` and what follows; `a|b` is both. The agent's own words after `--` are not ours."""
    for line in _code(name.read_text()):
        found = re.match(r"(?:sudo )?(?:\.venv/bin/)?estop(?: |$)(.*)", line)
        if found:
            given = shlex.split(found[1], comments=True)
            given = given[: given.index("--")] if "--" in given else given
            yield from itertools.product(*(word.split("|") for word in given))


_SAID = sorted({words for page in PAGES for words in _words(page)})


def test_the_documents_speak_of_many_commands():
    assert len({words[0] for words in _SAID if words}) > 20


@pytest.mark.parametrize("words", _SAID, ids=" ".join)
def test_what_a_document_types_the_program_takes(words):
    context, found, rest = click.Context(command), command, list(words)
    while isinstance(found, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        found = found.get_command(context, name)
        assert found is not None, f"there is no `estop {' '.join(words)}`"
        context = click.Context(found, parent=context)
    found.make_parser(context).parse_args(rest)  # what an option needs, and which there are


def test_every_command_is_in_a_document():
    assert set(COMMANDS) <= {words[0] for words in _SAID if words}


def test_every_target_of_make_that_a_document_names_is_there():
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = [
        target
        for page in PAGES
        for line in _code(page.read_text())
        for target in re.findall(r"^make ([a-z-]+)", line)
    ]
    assert named
    assert set(named) <= targets


def test_the_readme_counts_the_signatures_as_they_are():
    files = (PROJECT / "rules").rglob("*.yml")
    documents = [d for f in files for d in yaml.safe_load_all(f.read_text()) if d and "title" in d]
    said = re.search(r"There are (\d+), by ATT&CK", PAGES[0].read_text().replace("\n  ", " "))
    assert said
    assert int(said[1]) == len(documents)


def test_the_page_of_settings_is_as_make_docs_writes_it():
    words = [sys.executable, str(PROJECT / "deploy" / "settings_page.py")]
    made = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    assert made == (PROJECT / "docs" / "settings.md").read_text()
    for name in Settings.model_fields.keys() - {"config"}:
        row = next(line for line in made.splitlines() if line.startswith(f"| `{name}`"))
        assert re.fullmatch(r"\| `\w+` \| .+ \| .{20,} \|", row), row


def test_every_file_that_a_document_names_is_there():
    for page in PAGES:
        for name in re.findall(
            r"`((?:docs|deploy|monitor|tests|rules|bpf)/[\w./-]+)`", page.read_text()
        ):
            assert (PROJECT / name).exists(), f"{page.name} names {name}"


def test_what_the_monitor_tells_of_itself_is_on_the_desk():
    ours = [*vars(housekeeper).values(), supervisor.API_KNOCK]
    stops = {rule.id: rule.response.stops for rule in ours if isinstance(rule, Rule)}
    rows = re.findall(
        r"^\| `(estop-[a-z-]+)` \|.*\| *(yes)? *\|$", PAGES[1].read_text(), re.MULTILINE
    )
    assert {rule: bool(yes) for rule, yes in rows} == stops
