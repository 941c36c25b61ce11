# SPDX-License-Identifier: Apache-2.0
"""Rules that were not written for estop: which those are, and which of them are none of its business.

A tree of community rules is not ours to mend, so a fault in it must not keep the monitor from
starting; and a slip in a rule that is to stop an agent must. What tells them apart is `response`, the
one key that only estop knows: a document without it asks for no more than an alert.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from monitor.detection.source import Document
from monitor.detection.strict import CORRELATION_KEYS, KEYS
from monitor.errors import RuleProblem
from monitor.fields import CATEGORIES

_RESPONSE = "response"
_SIGMAS_OWN = {*KEYS, *CORRELATION_KEYS} - {_RESPONSE}
_NEAR = 0.8
_RULE = {"logsource", "detection", "correlation", "filter", "action"}
_RETIRED = {"deprecated", "unsupported"}


def is_foreign(document: Document) -> bool:
    """It has no `response`, and no key that could be meant as one."""
    unknown = (key.casefold() for key in document.data if key not in _SIGMAS_OWN)
    return not any(get_close_matches(key, [_RESPONSE], cutoff=_NEAR) for key in unknown)


def passed_over(document: Document) -> str:
    """Why a foreign document is not looked at; nothing if it is."""
    data = document.data
    if not _RULE & data.keys():
        return "no rule"
    if data.get("status") in _RETIRED:
        return f"status {data['status']}"
    if "id" not in data and "filter" not in data:
        return "no id"
    # A correlation has no logsource; a rule without one is told so.
    logsource = data.get("logsource")
    return _elsewhere(logsource) if isinstance(logsource, dict) else ""


def _elsewhere(logsource: dict[str, Any]) -> str:
    if logsource.get("product") != "linux":
        return f"product {logsource.get('product', 'not named')}"
    if "service" in logsource:
        return f"service {logsource['service']}"
    category = str(logsource.get("category", "not named"))
    if category in CATEGORIES or get_close_matches(category, CATEGORIES, cutoff=_NEAR):
        return ""  # one that is nearly ours is a slip: it is listed by its name
    return f"category {category}"


def reason(problems: Sequence[RuleProblem]) -> str:
    """Why a rule is off, from what is wrong with it."""
    first = problems[0]
    mend = f" ({first.mend})" if first.mend.startswith("did you mean") else ""
    return first.message + mend + (f", and {len(problems) - 1} more" if len(problems) > 1 else "")
