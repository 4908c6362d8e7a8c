"""The cache keeps what was used last, up to its weight."""

from __future__ import annotations

import pytest

from fletching.engine import cache as caches
from fletching.engine.cache import Budget, RecentlyUsed, remembered


def test_the_longest_unused_goes_first() -> None:
    cache = RecentlyUsed[str, int](2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]
    cache.put("a", 9)
    assert cache.get("a") == 9
    assert len(cache) == 2


def test_weights_bound_the_sum_and_a_giant_stands_alone() -> None:
    cache = RecentlyUsed[str, bytes](10, weight=len)
    cache.put("a", b"12345")
    cache.put("b", b"12345")
    cache.put("c", b"1")
    assert [cache.get(key) for key in "abc"] == [None, b"12345", b"1"]
    cache.put("giant", b"x" * 100)
    assert [cache.get(key) for key in ("b", "c")] == [b"12345", b"1"]
    assert cache.get("giant") is not None
    assert len(cache) == 2
    cache.put("another", b"x" * 11)
    assert cache.get("giant") is None
    assert cache.get("another") is not None
    cache.put("another", b"1")
    assert cache.get("another") == b"1"
    assert cache.hits == 7


def test_caches_of_one_budget_make_way_for_each_other() -> None:
    budget = Budget(10)
    texts, numbers = RecentlyUsed[str, bytes](budget, weight=len), RecentlyUsed[str, int](budget)
    texts.put("a", b"12345")
    numbers.put("a", 7)
    assert (texts.get("a"), numbers.get("a")) == (b"12345", 7)
    texts.put("b", b"123")
    numbers.put("c", 9)
    assert (len(texts), len(numbers)) == (2, 2)
    # What was used longest ago goes, whatever it is.
    texts.put("d", b"1")
    assert [texts.get(key) for key in "abd"] == [None, b"123", b"1"]
    assert [numbers.get(key) for key in "ac"] == [7, 9]
    # A giant of one is none of the other.
    texts.put("e", b"x" * 11)
    assert numbers.get("e") is None


def test_what_nobody_asked_for_in_long_goes_when_another_comes() -> None:
    now = 0.0
    cache = RecentlyUsed[str, int](10, idle_seconds=60.0, clock=lambda: now)
    cache.put("a", 1)
    cache.put("b", 2)
    now = 40.0
    assert cache.get("a") == 1
    now = 61.0
    assert cache.get("b") == 2, "nothing goes by itself"
    cache.put("c", 3)
    assert len(cache) == 3, "both were asked for within the minute"
    now = 110.0
    cache.put("d", 4)
    assert [cache.get(key) for key in "abcd"] == [None, 2, 3, 4]
    now = 1000.0
    cache.put("e", 5)
    assert [cache.get(key) for key in "abcde"] == [None, None, None, None, 5]


def test_what_is_parsed_once_is_kept_by_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(100)
    monkeypatch.setattr(caches, "_PARSED", budget)
    asked: list[bytes] = []

    def parse(data: bytes) -> None:
        asked.append(data)

    first, second = remembered(parse, growth=1), remembered(parse, growth=9)
    for _ in range(3):
        assert first(b"x" * 20) is None  # also what is nothing is known then
        second(b"y" * 6)
    assert asked == [b"x" * 20, b"y" * 6]
    assert budget.total == 2 * 20 + 10 * 6
    second(b"z")
    first(b"x" * 20)
    assert asked[2:] == [b"z", b"x" * 20]
    assert budget.total <= 100


def test_everything_is_dropped_at_once() -> None:
    budget = Budget(10)
    small = RecentlyUsed[str, int](budget, weight=lambda value: value)
    large = RecentlyUsed[str, int](budget, weight=lambda value: value)
    small.put("a", 3)
    large.put("b", 4)
    large.put("giant", 11)
    budget.clear()
    assert (small.get("a"), large.get("b"), large.get("giant"), budget.total) == (
        None,
        None,
        None,
        0,
    )
    small.put("a", 10)
    assert small.get("a") == 10
