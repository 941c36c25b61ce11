# SPDX-License-Identifier: Apache-2.0
"""The style of rules, by pySigma's own validators: advice, where `check` tells errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sigma.plugins import InstalledSigmaPlugins
from sigma.rule import SigmaDetectionItem, SigmaRule
from sigma.validation import SigmaValidator
from sigma.validators.base import SigmaValidationIssue

from monitor.detection import sigma, source
from monitor.detection.source import Document
from monitor.errors import RuleProblem

LEFT_OUT = {
    "attacktag": "downloads the list of techniques",
    "d3_fendtag": "downloads the list of countermeasures",
    "cartag": "the repository that it means is no more",
    "custom_attributes": "`response` is one",
    "namespace_tag": "`estop.taint` is one that it does not know",
    "duplicate_filename": "several rules may share a file",
}
"""Validators that are not asked -> why."""


def lint(paths: Sequence[Path]) -> list[RuleProblem]:
    """Every piece of advice on the rules of these files that can be read."""
    files, problems = source.discover(paths)
    plugins = InstalledSigmaPlugins.autodiscover(
        include_backends=False, include_pipelines=False, include_validators=True
    )
    known = plugins.validators.items()
    classes = [found for name, found in known if name not in LEFT_OUT]
    validator = SigmaValidator(classes)  # type: ignore[arg-type] # they are, whatever pySigma says
    documents: dict[str, Document] = {}
    for file in files:
        for document in source.read(file).documents:
            rule = sigma.parse(document.data)
            if rule.errors or not isinstance(rule, SigmaRule) or "detection" not in document.data:
                continue  # `check` says what is wrong with it
            documents[str(rule.id)] = document
            problems += _told(validator.validate_rule(rule), documents)
    problems += _told(validator.finalize(), documents)
    return problems


def _told(
    issues: Sequence[SigmaValidationIssue], documents: dict[str, Document]
) -> Iterator[RuleProblem]:
    for issue in issues:
        for rule in issue.rules:
            document = documents.get(str(rule.id))
            if document is not None:
                yield document.problem(_words(issue), "title")


def _words(issue: SigmaValidationIssue) -> str:
    own = {k: v for k, v in vars(issue).items() if k not in {"rules", "severity", "description"}}
    about = ", ".join(f"{name} {_name(value)}" for name, value in own.items())
    said = f"{issue.severity.name.lower()}: {issue.description}"
    return f"{said} ({about})" if about else said


def _name(part: object) -> str:
    """Parts of a rule print all that they know; their field is what helps to find them."""
    if isinstance(part, SigmaDetectionItem):
        return str(part.field)
    return str(part)
