"""A bounded, thread-safe cache of immutable values: what was used longest ago goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["RecentlyUsed"]

Key = TypeVar("Key")
Value = TypeVar("Value")


class RecentlyUsed(Generic[Key, Value]):
    """Keeps values up to a summed weight; a value heavier than that by itself is kept alone.

    Attributes:
        hits, misses: how many lookups found a value, and how many did not.
    """

    def __init__(self, capacity: int, *, weight: Callable[[Value], int] = lambda _: 1) -> None:
        """Keeps values whose ``weight`` sums to at most ``capacity``."""
        self._capacity = capacity
        self._weight = weight
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._total = 0
        self.hits = self.misses = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """The value, or None."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
                self.hits += 1
            else:
                self.misses += 1
            return value

    def put(self, key: Key, value: Value) -> None:
        """Keeps a value, in place of an older one under the same key."""
        with self._lock:
            older = self._values.pop(key, None)
            if older is not None:
                self._total -= self._weight(older)
            self._values[key] = value
            self._total += self._weight(value)
            while self._total > self._capacity and len(self._values) > 1:
                _, gone = self._values.popitem(last=False)
                self._total -= self._weight(gone)

    def __len__(self) -> int:
        """How many values are kept."""
        return len(self._values)
