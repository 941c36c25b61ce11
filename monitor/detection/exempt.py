# SPDX-License-Identifier: Apache-2.0
"""Programs that a condition forgives, whatever else happens."""

from __future__ import annotations

from monitor.detection.condition import AllOf, AnyOf, Condition, Leaf, Match, Not
from monitor.detection.fold import fold, holds, leaves


def without_exempt(rest: Condition) -> tuple[frozenset[str], Condition]:
    """Programs that the rest forgives, and what it needs of all others."""
    exempt = _denied(rest, frozenset(str(x.value) for x in leaves(rest) if _whole_image(x)))

    def another(leaf: Leaf) -> bool | None:
        return False if _whole_image(leaf) and leaf.value in exempt else None

    return exempt, fold(rest, another) if exempt else rest


def _denied(condition: Condition, images: frozenset[str]) -> frozenset[str]:
    """The images with which a folded condition cannot hold, whatever else there is."""
    match condition:
        case AllOf(terms):
            return frozenset().union(*(_denied(term, images) for term in terms))
        case AnyOf(terms):
            for term in terms:
                images = images and _denied(term, images)
            return images
        case Not(term):
            return images - _denied(term, images) if _is_image(term) else frozenset()
        case _ if not _is_image(condition):
            return frozenset()
        case _ if _whole_image(condition):
            return images - {str(condition.value)}
    return frozenset(image for image in images if not holds(condition, image))


def _is_image(condition: Condition) -> bool:
    return isinstance(condition, Leaf) and condition.fields == ("Image",)


def _whole_image(leaf: Leaf) -> bool:
    absolute = leaf.cased and str(leaf.value).startswith("/")
    return leaf.field == "Image" and leaf.match is Match.EQUALS and absolute
