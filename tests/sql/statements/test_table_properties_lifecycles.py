"""Partitions that stay are kept in a property, whatever else it says."""

from __future__ import annotations

import json

import pytest

from fletching.errors import InvalidArgumentError, LimitExceededError
from fletching.sql.statements.table_properties import (
    DISABLED,
    ENABLED,
    MAX_PARTITIONS,
    kept_partitions,
    with_partition_lifecycle,
)

A, B = ("a", "1"), ("b", "1")


def test_each_partition_has_its_own() -> None:
    kept = with_partition_lifecycle({}, A, {A: 1.5}, DISABLED)
    kept = with_partition_lifecycle(kept_partitions(kept), B, {A: 1.5, B: 2.25}, DISABLED)
    assert kept_partitions(kept) == {A: 1.5, B: 2.25}
    # One that was made at another time is another partition, and forgotten with the next change.
    kept = with_partition_lifecycle(kept_partitions(kept), B, {A: 3.0, B: 2.25}, ENABLED)
    assert kept_partitions(kept) == {}


def test_what_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="disabled or enabled"):
        with_partition_lifecycle({}, A, {A: 1.0}, "3")
    many: dict[tuple[str, ...], float] = {(str(number),): 1.0 for number in range(MAX_PARTITIONS)}
    with pytest.raises(LimitExceededError, match="disable the table's"):
        with_partition_lifecycle(many, A, many | {A: 1.0}, DISABLED)


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "{}", json.dumps([[["a"], "x"]])])
def test_a_property_that_says_nothing(text: str | None) -> None:
    assert kept_partitions(text) == {}
