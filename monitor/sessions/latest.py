# SPDX-License-Identifier: Apache-2.0
"""A dictionary that forgets its oldest entries: what an agent can make grow must have an end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Latest(Generic[K, V]):
    """The `limit` entries that were set last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __setitem__(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K, default: V) -> V:
        """The value of an entry, or `default` where there is none or it was forgotten."""
        return self._entries.get(key, default)
