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
    given = fields.get(tree.field)
    elements = [x for x in (given if isinstance(given, list) else [given]) if x is not None]
    match tree.value:
        case SigmaNull():
            return not elements
        case SigmaExists(exists=wanted):
            return bool(elements) == wanted
    return any(equal(tree.value, element) for element in elements)


def equal(value, element) -> bool:
    text = str(element).lower() if isinstance(element, bool) else str(element)
    match value:
        case SigmaExpansion():
            return any(equal(one, element) for one in value.values)
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
