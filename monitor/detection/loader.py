# SPDX-License-Identifier: Apache-2.0
"""Rule files to a rule set, all or nothing; it must not change a running one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from monitor.detection import source
from monitor.detection.reading import NO_VARIABLES, Reading, Variables, judge
from monitor.detection.ruleset import RuleSet
from monitor.detection.source import Document
from monitor.errors import RuleError, RuleProblem


def load(paths: Sequence[Path], *, variables: Variables = NO_VARIABLES) -> RuleSet:
    """The rules of these files and directories, or a `RuleError` with every problem there is.

    `variables` gives the values of `%name%` under `|expand`. A rule that needs a known variable
    without a value here is not an error: it is listed in `inactive`, with the reason.
    """
    reading = read(paths, variables)
    if reading.problems:
        raise RuleError(reading.problems)
    return RuleSet(
        tuple(reading.signatures),
        tuple(reading.inactive),
        reading.digest,
        tuple(reading.correlations),
    )


def read(paths: Sequence[Path], variables: Variables) -> Reading:
    """The same without raising: the sound rules beside the problems of the others."""
    reading = Reading()
    files, reading.problems = source.discover(paths)
    digest = hashlib.sha256()
    documents: list[Document] = []
    for file in files:
        content = source.read(file)
        digest.update(b"%d\n" % len(content.content) + content.content)
        reading.problems += content.problems
        documents += content.documents
    reading.digest = digest.hexdigest()
    judge(reading, documents, variables)
    if not files and not reading.problems:
        where = ", ".join(map(str, paths)) or "no path"
        reading.problems.append(RuleProblem(where, 0, "holds no rule file", "*.yml or *.yaml"))
    return reading
