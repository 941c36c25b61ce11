# SPDX-License-Identifier: Apache-2.0
"""Rule files as YAML documents that know their line numbers; it must not know what a rule is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from sigma.rule.base import SigmaYAMLLoader

from monitor.errors import RuleProblem

SUFFIXES = {".yml", ".yaml"}

Step = str | int
"""A mapping's key or a sequence's index, on the way to a node."""


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document. `data` is its content, `node` the same with a mark on every part."""

    file: str
    node: yaml.MappingNode
    data: dict[str, Any]
    detection: str = "detection"
    """The key under which the file has what `data` has under `detection`."""

    def line(self, *steps: Step) -> int:
        """The line of the part that the steps lead to, as far as they exist."""
        node: yaml.Node = self.node
        if steps[:1] == ("detection",):
            steps = (self.detection, *steps[1:])
        line: int = node.start_mark.line
        for step in steps:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return line + 1

    def problem(self, message: str, *steps: Step, mend: str = "") -> RuleProblem:
        """A problem with the part that the steps lead to."""
        return RuleProblem(self.file, self.line(*steps), message, mend)


@dataclass(slots=True)
class Source:
    """What one file holds: its bytes, the sound documents, and what is wrong with the rest."""

    content: bytes = b""
    documents: list[Document] = field(default_factory=list)
    problems: list[RuleProblem] = field(default_factory=list)


def discover(paths: Sequence[Path]) -> tuple[list[Path], list[RuleProblem]]:
    """Rule files below the paths, in a fixed order, each once; a file named outright always counts.

    Hidden files and directories are left out: editors and version control keep theirs there.
    """
    files: dict[str, Path] = {}
    problems: list[RuleProblem] = []
    for path in paths:
        if path.is_dir():
            for file in sorted(_walk(path, problems)):
                files.setdefault(os.path.realpath(file), file)
        else:
            files.setdefault(os.path.realpath(path), path)
    return list(files.values()), problems


def read(file: Path) -> Source:
    """The documents of one rule file."""
    source = Source()
    name = str(file)
    try:
        source.content = file.read_bytes()
        text = source.content.decode("utf-8")
    except OSError as error:
        source.problems.append(RuleProblem(name, 0, f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        line = source.content.count(b"\n", 0, error.start) + 1
        mend = "save the file as UTF-8"
        source.problems.append(RuleProblem(name, line, "is not UTF-8 text", mend))
    else:
        _parse(name, text, source)
    return source


def _walk(top: Path, problems: list[RuleProblem]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        problems.append(RuleProblem(str(error.filename), 0, f"cannot be read: {error.strerror}"))

    seen: set[str] = set()  # a symlink to a directory above would make us walk for ever
    for directory, below, names in os.walk(top, onerror=unreadable, followlinks=True):
        real = os.path.realpath(directory)
        below[:] = [] if real in seen else [name for name in below if not name.startswith(".")]
        seen.add(real)
        for name in names:
            if Path(name).suffix in SUFFIXES and not name.startswith("."):
                yield Path(directory, name)


def _parse(file: str, text: str, source: Source) -> None:
    try:
        loader = SigmaYAMLLoader(text)
        while loader.check_node():
            node: yaml.Node = loader.get_node()  # type: ignore[assignment] # check_node() said so
            found = list(_faults(file, node))
            source.problems += found
            if not found and isinstance(node, yaml.MappingNode):
                # No part repeats or refers to another one here: what is built is a plain tree.
                source.documents.append(Document(file, node, loader.construct_document(node)))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        source.problems.append(_broken(file, text, error))
    if not source.documents and not source.problems:
        source.problems.append(RuleProblem(file, 0, "holds no rule", "remove it or write one"))


def _faults(file: str, root: yaml.Node) -> Iterator[RuleProblem]:
    """Whatever YAML allows and a rule must not have: it would be dropped or shared silently."""
    if _is_null(root):
        return
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        yield RuleProblem(file, line, "is not a mapping of keys to values, as a rule must be")
        return
    seen = {id(root)}
    todo: list[yaml.Node] = [root]
    while todo:
        node = todo.pop()
        if isinstance(node, yaml.MappingNode):
            yield from _bad_keys(file, node)
        for line, child in _children(node):
            if id(child) in seen:
                mend = "write the value out"
                yield RuleProblem(file, line + 1, "YAML anchors are not taken in a rule", mend)
            else:
                seen.add(id(child))
                todo.append(child)


def _bad_keys(file: str, node: yaml.MappingNode) -> Iterator[RuleProblem]:
    first: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag != "tag:yaml.org,2002:str":
            yield RuleProblem(file, line, f"the key `{_spelling(key)}` is not text", "quote it")
        elif key.value in first:
            yield RuleProblem(
                file,
                line,
                f"the key `{key.value}` is already there on line {first[key.value]}",
                "keep one of them; several values make a list",
            )
        else:
            first[key.value] = line


def _children(node: yaml.Node) -> Iterator[tuple[int, yaml.Node]]:
    """Each child with the line that leads to it: an anchored node only knows its first place."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key.start_mark.line, value
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield node.start_mark.line, value


def _child(node: yaml.Node, step: Step) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line, node.value[step]
    return None


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _spelling(key: yaml.Node) -> str:
    return key.value if isinstance(key, yaml.ScalarNode) else "..."


def _broken(file: str, text: str, error: Exception) -> RuleProblem:
    mark = getattr(error, "problem_mark", None)
    position = getattr(error, "position", None)  # a ReaderError counts characters
    line = mark.line + 1 if mark else 0
    if position is not None:
        line = text.count("\n", 0, position) + 1
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return RuleProblem(file, line, f"is not YAML: {reason}")
