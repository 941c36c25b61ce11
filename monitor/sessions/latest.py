# SPDX-License-Identifier: Apache-2.0
"""A dictionary that forgets its oldest entries: what an agent can make grow must have an end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


_NONE = object()


class Latest(Generic[K, V]):
    """The `limit` entries that were set last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, V] = OrderedDict()
        self.changes = 0
        """How often an entry came, or got another value."""

    def __setitem__(self, key: K, value: V) -> None:
        if self._entries.get(key, _NONE) != value:
            self.changes += 1
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def newest(self, most: int) -> list[tuple[K, V]]:
        """Up to so many of the entries that were set last, oldest first."""
        return list(self._entries.items())[-most:]

    def recall(self, entries: Iterable[tuple[K, V]]) -> None:
        """Set them all, in this order."""
        for key, value in entries:
            self[key] = value

    def get(self, key: K, default: V) -> V:
        """The value of an entry, or `default` where there is none or it was forgotten."""
        return self._entries.get(key, default)
