"""A bounded, thread-safe cache of immutable values: what was used longest ago goes first."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["RecentlyUsed"]

IDLE_SECONDS = 300.0
"""Of what is known of one version, session or segment: of a table that changes all day, most are never asked
for again."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class RecentlyUsed(Generic[Key, Value]):
    """Keeps values up to a summed weight; a value heavier than that by itself is kept alone.

    Attributes:
        hits, misses: how many lookups found a value, and how many did not.
    """

    def __init__(
        self,
        capacity: int,
        *,
        weight: Callable[[Value], int] = lambda _: 1,
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keeps values whose ``weight`` sums to at most ``capacity``.

        Args:
            capacity: the most that they weigh together.
            weight: of a value.
            idle_seconds: one that nobody asked for in so long goes when another comes, however much room
                there is: of what ever new values replace, only those in use are then in memory.
            clock: seconds that only grow.
        """
        self._capacity = capacity
        self._weight = weight
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._values: OrderedDict[Key, _Kept[Value]] = OrderedDict()
        self._total = 0
        self.hits = self.misses = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """The value, or None."""
        with self._lock:
            kept = self._values.get(key)
            if kept is None:
                self.misses += 1
                return None
            self._values.move_to_end(key)
            kept.used = self._clock()
            self.hits += 1
            return kept.value

    def put(self, key: Key, value: Value) -> None:
        """Keeps a value, in place of an older one under the same key."""
        with self._lock:
            older = self._values.pop(key, None)
            if older is not None:
                self._total -= self._weight(older.value)
            now = self._clock()
            self._values[key] = _Kept(value, now)
            self._total += self._weight(value)
            while len(self._values) > 1:
                oldest, kept = next(iter(self._values.items()))
                if self._total <= self._capacity and now - kept.used <= self._idle_seconds:
                    break
                del self._values[oldest]
                self._total -= self._weight(kept.value)

    def __len__(self) -> int:
        """How many values are kept."""
        return len(self._values)


@dataclasses.dataclass(slots=True)
class _Kept(Generic[Value]):
    """A value, and when somebody asked for it last."""

    value: Value
    used: float
