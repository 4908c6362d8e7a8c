"""Caches of immutable values, bounded by their weight: what was used longest ago goes first.

Caches of several kinds may share one budget: then memory goes to what is used, whatever kind it is of.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

__all__ = ["Budget", "RecentlyUsed", "remembered"]

IDLE_SECONDS = 300.0
"""Of what is known of one version, session or segment: of a table that changes all day, most are never asked
for again."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class _Sharing(Protocol):
    """A cache, as its budget sees it; called under the budget's lock."""

    def oldest_use(self) -> float:
        """When the value that was used longest ago was used; infinity without any."""

    def drop_oldest(self) -> None:
        """Drops that value."""

    def drop_all(self) -> None:
        """Drops every value."""


class Budget:
    """A summed weight up to which the caches that share it keep values.

    Attributes:
        capacity: the most that they weigh together.
        total: what they weigh now.
        lock: held by whoever looks at one of them.
    """

    def __init__(self, capacity: int) -> None:
        """Keeps values whose weights sum to at most ``capacity``."""
        self.capacity = capacity
        self.total = 0
        self.lock = threading.Lock()
        self._caches: list[_Sharing] = []

    def add(self, cache: _Sharing) -> None:
        """Lets a cache share this."""
        self._caches.append(cache)

    def make_room(self) -> None:
        """Drops what was used longest ago, of any cache, until all that is left fits; under the lock."""
        while self.total > self.capacity:
            min(self._caches, key=lambda cache: cache.oldest_use()).drop_oldest()

    def clear(self) -> None:
        """Drops everything: what was kept is not true any more."""
        with self.lock:
            for cache in self._caches:
                cache.drop_all()


@dataclasses.dataclass(slots=True)
class _Kept(Generic[Value]):
    """A value, what it weighs, and when somebody asked for it last."""

    value: Value
    weight: int
    used: float


class RecentlyUsed(Generic[Key, Value]):
    """A cache with a budget of its own, or one that shares a budget with others. Thread-safe.

    A value heavier than the whole budget stands beside the others, and does not have to make way for
    them; of each cache the last such one is kept.

    Attributes:
        budget: what counts the weights.
        hits, misses: how many lookups found a value, and how many did not.
    """

    def __init__(
        self,
        budget: int | Budget,
        *,
        weight: Callable[[Value], int] = lambda _: 1,
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keeps values whose ``weight`` sums to at most ``budget``, together with those that share it.

        Args:
            budget: the most that they weigh together.
            weight: of a value.
            idle_seconds: one that nobody asked for in so long goes when another comes, however much room
                there is: of what ever new values replace, only those in use are then in memory.
            clock: seconds that only grow.
        """
        self.budget = Budget(budget) if isinstance(budget, int) else budget
        self._lock = self.budget.lock
        self._weight = weight
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._values: OrderedDict[Key, _Kept[Value]] = OrderedDict()
        self._heavy: tuple[Key, Value] | None = None
        self.hits = self.misses = 0
        self.budget.add(self)

    def get(self, key: Key) -> Value | None:
        """The value, or None."""
        with self._lock:
            kept = self._values.get(key)
            if kept is not None:
                self._values.move_to_end(key)
                kept.used = self._clock()
                self.hits += 1
                return kept.value
            if self._heavy is not None and self._heavy[0] == key:
                self.hits += 1
                return self._heavy[1]
            self.misses += 1
            return None

    def put(self, key: Key, value: Value) -> None:
        """Keeps a value, in place of an older one under the same key."""
        weight = self._weight(value)
        with self._lock:
            older = self._values.pop(key, None)
            if older is not None:
                self.budget.total -= older.weight
            if weight > self.budget.capacity:
                self._heavy = key, value
                return
            if self._heavy is not None and self._heavy[0] == key:
                self._heavy = None
            now = self._clock()
            self._values[key] = _Kept(value, weight, now)
            self.budget.total += weight
            while now - self.oldest_use() > self._idle_seconds:
                self.drop_oldest()
            self.budget.make_room()

    def oldest_use(self) -> float:
        """See `Budget`."""
        return next(iter(self._values.values())).used if self._values else float("inf")

    def drop_oldest(self) -> None:
        """See `Budget`."""
        _, kept = self._values.popitem(last=False)
        self.budget.total -= kept.weight

    def drop_all(self) -> None:
        """See `Budget`."""
        self.budget.total -= sum(kept.weight for kept in self._values.values())
        self._values.clear()
        self._heavy = None

    def clear(self) -> None:
        """Drops everything, of a cache with a budget of its own."""
        self.budget.clear()

    def __len__(self) -> int:
        """How many values are kept, without one that is heavier than the budget."""
        return len(self._values)


PARSED_BYTES = 32 << 20

_PARSED = Budget(PARSED_BYTES)
"""What a process makes of stored bytes is the same for each of its engines, so this is nobody's own."""


def remembered(parse: Callable[[bytes], Value], *, growth: int) -> Callable[[bytes], Value]:
    """The same function, which keeps its results as long as they fit into the process's budget for them.

    Args:
        parse: makes something immutable of bytes.
        growth: how many times as large as the bytes the result is, about; they are kept with it.
    """
    kept = RecentlyUsed[bytes, tuple[Value, int]](_PARSED, weight=lambda each: each[1])

    def look_up(data: bytes) -> Value:
        known = kept.get(data)
        if known is None:
            known = parse(data), (1 + growth) * len(data)
            kept.put(data, known)
        return known[0]

    return look_up
