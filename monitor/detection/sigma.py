# SPDX-License-Identifier: Apache-2.0
"""Sigma detections to conditions by way of pySigma; the only module that knows pySigma's trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import re2
from pyparsing import ParseException
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionIdentifier,
    ConditionItem,
    ConditionNOT,
    ConditionOR,
    ConditionSelector,
)
from sigma.exceptions import SigmaError
from sigma.modifiers import modifier_mapping
from sigma.rule import SigmaDetectionItem, SigmaDetections, SigmaRule
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaType,
    SpecialChars,
)

from monitor.detection.condition import AllOf, AnyOf, Condition, Leaf, Match, Not, depth
from monitor.detection.values import RE2_OPTIONS

MODIFIERS = (
    *("all", "neq", "cased", "contains", "startswith", "endswith", "re", "i", "m", "s"),
    *("ignorecase", "multiline", "dotall", "cidr", "exists", "expand", "lt", "lte", "gt", "gte"),
    *("base64", "base64offset", "wide", "utf16", "utf16be", "windash", "fieldref"),
)
"""The modifiers this version evaluates."""

SIGMA_MODIFIERS = tuple(modifier_mapping)
"""Every modifier that Sigma knows."""

TIME_MODIFIERS = ("minute", "hour", "day", "week", "month", "year")
"""Those for fields that hold a time: there is none."""

DEEPEST = 40
"""Levels of a condition: well below what Python's parser takes."""

_COMPARE = {
    CompareOperators.LT: Match.LESS,
    CompareOperators.LTE: Match.AT_MOST,
    CompareOperators.GT: Match.MORE,
    CompareOperators.GTE: Match.AT_LEAST,
}

_FLAGS = {
    SigmaRegularExpressionFlag.IGNORECASE: "i",
    SigmaRegularExpressionFlag.MULTILINE: "m",
    SigmaRegularExpressionFlag.DOTALL: "s",
}


_REFERENCE = {
    (False, False): Match.SAME_AS,
    (True, False): Match.BEGINS_WITH,
    (False, True): Match.ENDS_WITH,
    (True, True): Match.HAS_IN_IT,
}
"""By (starts with, ends with), as pySigma notes `startswith`, `endswith` and `contains`."""

_SHAPES = {
    (): Match.EQUALS,
    ("text",): Match.EQUALS,
    ("text", "*"): Match.PREFIX,
    ("*", "text"): Match.SUFFIX,
    ("*", "text", "*"): Match.CONTAINS,
}
"""Strings that need no pattern matching; any other shape is a glob."""


class NotCompilableError(ValueError):
    """A detection that Sigma allows or refuses, and this version cannot evaluate."""


def parse(document: Mapping[str, Any]) -> SigmaRule:
    """The rule as pySigma reads it. What it objects to is in `.errors`."""
    return SigmaRule.from_dict(dict(document), collect_errors=True)


def condition(rule: SigmaRule) -> Condition:
    """The condition of a rule that parsed without errors."""
    try:
        tree = rule.detection.parsed_condition[0].parsed
        result = _translate(tree)
    except SigmaError as error:
        raise NotCompilableError(_readable(error, rule.detection.condition[0])) from error
    except RecursionError:
        raise NotCompilableError("the condition is nested too deeply") from None
    if depth(result) > DEEPEST:
        raise NotCompilableError("the condition is nested too deeply")
    return result


def item(key: str, value: object) -> None:
    """Raise `NotCompilableError` if this one entry of a detection cannot be evaluated."""
    try:
        parsed = SigmaDetectionItem.from_mapping(key, value)  # type: ignore[arg-type] # it checks
        for one in parsed.value:
            _value(parsed.field or "", one)
    except SigmaError as error:
        raise NotCompilableError(str(error)) from error


def expression_fault(expression: object) -> str:
    """Why this is no RE2 expression, or nothing."""
    if not isinstance(expression, str):
        return f"`{expression}` is no text"
    try:
        _checked(expression)
    except NotCompilableError as error:
        return str(error)
    return ""


def unused(rule: SigmaRule) -> list[str]:
    """Detections that the condition never mentions: they look as if they did something."""
    try:
        tree = rule.detection.parsed_condition[0].parse(postprocess=False)
    except SigmaError:
        return []  # `condition` reports it
    used = _mentioned(tree, rule.detection)
    return [name for name in rule.detection.detections if name not in used]


def _readable(error: SigmaError, text: str) -> str:
    """What is wrong with a condition; the parser's own words list its grammar."""
    if not isinstance(error.__context__, ParseException):
        return str(error)
    rest = text[error.__context__.loc :].strip()
    return (
        f"the condition cannot be read from `{rest}` on" if rest else "the condition is cut short"
    )


def _mentioned(tree: object, detections: SigmaDetections) -> set[str]:
    if isinstance(tree, ConditionIdentifier):
        return {tree.identifier}
    if isinstance(tree, ConditionSelector):
        return {x.identifier for x in tree.resolve_referenced_detections(detections)}
    if isinstance(tree, ConditionItem):
        return set().union(*(_mentioned(arg, detections) for arg in tree.args))
    return set()


def _translate(tree: object) -> Condition:
    match tree:
        case ConditionAND():
            return AllOf(tuple(_translate(arg) for arg in tree.args))
        case ConditionOR():
            return AnyOf(tuple(_translate(arg) for arg in tree.args))
        case ConditionNOT():
            return Not(_translate(tree.args[0]))
        case ConditionFieldEqualsValueExpression():
            return _value(tree.field, tree.value)
        case _:
            raise NotCompilableError("a value without a field cannot be looked for in an event")


def _value(field: str, value: SigmaType) -> Condition:  # noqa: C901, PLR0911 -- one type, one line
    match value:
        case SigmaString():
            return _string(field, value)
        case SigmaNumber() if type(value) is SigmaNumber:
            return Leaf(field, Match.EQUALS, str(value))
        case SigmaBool():
            return Leaf(field, Match.EQUALS, str(value).lower())
        case SigmaNull():
            return Leaf(field, Match.NULL)
        case SigmaExists():
            absent = Leaf(field, Match.NULL)
            return Not(absent) if value.exists else absent
        case SigmaCIDRExpression():
            return Leaf(field, Match.NETWORK, str(value.network))
        case SigmaCompareExpression() if value.op in _COMPARE:
            return Leaf(field, _COMPARE[value.op], value.number.number)
        case SigmaRegularExpression():
            return _regex(field, value)
        case SigmaFieldReference():
            return Leaf(field, _REFERENCE[value.starts_with, value.ends_with], value.field)
        case SigmaExpansion():
            return AnyOf(tuple(_value(field, one) for one in value.values))
        case _:
            raise NotCompilableError(f"a {type(value).__name__} cannot be compared")


def _string(field: str, value: SigmaString) -> Condition:
    cased = isinstance(value, SigmaCasedString)
    parts = _parts(value)
    star = SpecialChars.WILDCARD_MULTI
    texts = [part for part in parts if isinstance(part, str)]
    if parts == [star]:
        return Not(Leaf(field, Match.NULL))
    shape = tuple(
        "*" if part is star else "text" if isinstance(part, str) else "?" for part in parts
    )
    if (match := _SHAPES.get(shape)) is not None:
        return Leaf(field, match, "".join(texts), cased)
    return Leaf(field, Match.GLOB, _glob(parts, cased=cased), cased)


def _parts(value: SigmaString) -> list[object]:
    """The pieces of a string, with runs of `*` made one."""
    parts: list[object] = []
    for part in value.s:
        if part is SpecialChars.WILDCARD_MULTI and parts and parts[-1] is part:
            continue
        parts.append(part)
    return parts


def _glob(parts: list[object], *, cased: bool) -> str:
    wild = {SpecialChars.WILDCARD_MULTI: ".*", SpecialChars.WILDCARD_SINGLE: "."}
    pieces = [
        re2.escape(part if cased else part.lower()) if isinstance(part, str) else wild[part]  # type: ignore[index] # only these two
        for part in parts
    ]
    return _checked("(?s)" + "".join(pieces))


def _regex(field: str, value: SigmaRegularExpression) -> Leaf:
    flags = "".join(sorted(_FLAGS[flag] for flag in value.flags))
    prefix = f"(?{flags})" if flags else ""
    return Leaf(field, Match.REGEX, _checked(prefix + str(value.regexp)))


def _checked(expression: str) -> str:
    try:
        re2.compile(expression, RE2_OPTIONS)
    except (re2.error, UnicodeEncodeError) as error:
        raise NotCompilableError(f"`{expression}` is no RE2 expression: {error}") from error
    return expression
