"""A folded test runs every case and names those that fail."""

from __future__ import annotations

import inspect

import pytest
from tests.folding import folded


def test_every_combination_is_run() -> None:
    seen = []

    @folded("left", [1, 2])
    @folded("right, three", [("a", "b"), ("c", "d")])
    def case(fixture: str, left: int, right: str, three: str) -> None:
        seen.append((fixture, left, right, three))

    assert list(inspect.signature(case).parameters) == ["fixture"]
    case(fixture="f")
    assert seen == [("f", 1, "a", "b"), ("f", 1, "c", "d"), ("f", 2, "a", "b"), ("f", 2, "c", "d")]


def test_what_fails_is_named_and_the_rest_runs() -> None:
    seen = []

    @folded("number", range(10))
    def case(number: int) -> None:
        seen.append(number)
        assert number % 4 != 1

    with pytest.raises(AssertionError) as caught:
        case()
    assert seen == list(range(10))
    assert caught.value.__notes__ == [
        "with {'number': 1}",
        "3 of 10 cases fail, also those with",
        "with {'number': 5}; with {'number': 9}",
    ]


def test_a_table_has_cases_and_a_test_their_names() -> None:
    with pytest.raises(AssertionError, match="without cases"):
        folded("a", [])
    with pytest.raises(AssertionError, match="missing"):
        folded("a", [1])(lambda b: None)


def test_what_does_not_raise_fails_and_nothing_is_skipped_silently() -> None:
    @folded("number", [1, 2])
    def raising(number: int) -> None:
        with pytest.raises(ValueError, match="invalid"):
            int("x" if number == 1 else "2")

    with pytest.raises(pytest.fail.Exception) as caught:
        raising()
    assert caught.value.__notes__ == ["with {'number': 2}"]

    @folded("number", [1])
    def skipping(number: int) -> None:
        pytest.skip(f"{number}")

    with pytest.raises(AssertionError, match="cannot be skipped"):
        skipping()
