# SPDX-License-Identifier: Apache-2.0
"""Sigma's meaning written down plainly, to hold the generated code to: slow, and by other means.

It walks pySigma's own tree and matches wildcards with Python's `re`.
"""

import operator
import re
from ipaddress import ip_address

from sigma.conditions import ConditionAND, ConditionNOT, ConditionOR
from sigma.rule import SigmaRule
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
    SigmaString,
    SpecialChars,
)

COMPARE = {
    CompareOperators.LT: operator.lt,
    CompareOperators.LTE: operator.le,
    CompareOperators.GT: operator.gt,
    CompareOperators.GTE: operator.ge,
}


def fires(rule: SigmaRule, fields: dict) -> bool:
    return holds(rule.detection.parsed_condition[0].parsed, fields)


def holds(tree, fields) -> bool:
    match tree:
        case ConditionAND():
            return all(holds(arg, fields) for arg in tree.args)
        case ConditionOR():
            return any(holds(arg, fields) for arg in tree.args)
        case ConditionNOT():
            return not holds(tree.args[0], fields)
    elements = listed(fields.get(tree.field))
    match tree.value:
        case SigmaNull():
            return not elements
        case SigmaExists(exists=wanted):
            return bool(elements) == wanted
    return any(equal(tree.value, element, fields) for element in elements)


def listed(given) -> list:
    return [x for x in (given if isinstance(given, list) else [given]) if x is not None]


def refers(value: SigmaFieldReference, element, other) -> bool:
    mine, its = spelled(element).lower(), spelled(other).lower()
    if not value.starts_with and not value.ends_with:
        return mine == its
    if not its:
        return False
    places = [i for i in range(len(mine)) if mine[i : i + len(its)] == its]
    if value.starts_with and value.ends_with:
        return bool(places)
    return (0 if value.starts_with else len(mine) - len(its)) in places


def spelled(element) -> str:
    return str(element).lower() if isinstance(element, bool) else str(element)


def equal(value, element, fields) -> bool:  # noqa: PLR0911 -- one type, one line
    text = spelled(element)
    match value:
        case SigmaExpansion():
            return any(equal(one, element, fields) for one in value.values)
        case SigmaFieldReference():
            return any(refers(value, element, x) for x in listed(fields.get(value.field)))
        case SigmaString():
            return like(value, text)
        case SigmaNumber() | SigmaBool():
            return text.lower() == str(value).lower()
        case SigmaCIDRExpression():
            return inside(value.network, text)
        case SigmaRegularExpression():
            flags = sum(SigmaRegularExpression.sigma_to_python_flags[flag] for flag in value.flags)
            return re.search(str(value.regexp), text, flags) is not None
        case SigmaCompareExpression():
            return compared(value, element)
    raise AssertionError(value)


def like(value: SigmaString, text: str) -> bool:
    wild = {SpecialChars.WILDCARD_MULTI: ".*", SpecialChars.WILDCARD_SINGLE: "."}
    change = str if isinstance(value, SigmaCasedString) else str.lower
    pieces = (re.escape(change(p)) if isinstance(p, str) else wild[p] for p in value.s)
    return re.fullmatch("".join(pieces), change(text), re.DOTALL) is not None


def inside(network, text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address) in network


def compared(value: SigmaCompareExpression, element) -> bool:
    if isinstance(element, bool):
        return False
    if isinstance(element, str):
        if not re.fullmatch("[0-9]{1,18}", element):
            return False
        element = int(element)
    return COMPARE[value.op](element, value.number.number)
