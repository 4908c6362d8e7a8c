"""Tiers are kept of the partitions that there are; anything else in the property says nothing."""

from __future__ import annotations

import json

import pytest

from fletching.errors import InvalidArgumentError, LimitExceededError
from fletching.sql.statements import table_properties
from fletching.sql.statements.table_properties import (
    STORAGE_TIER,
    declared_tiers,
    partition_tier,
    with_partition_tier,
)

A, B = ("a", "1"), ("b", "1")


def test_each_partition_has_its_own() -> None:
    kept = with_partition_tier({}, A, {A: 1.5}, {STORAGE_TIER: "LongTerm"})
    kept = with_partition_tier(
        declared_tiers(kept), B, {A: 1.5, B: 2.25}, {STORAGE_TIER: "standard"}
    )
    assert partition_tier(kept, A, 1.5) == "longterm"
    assert partition_tier(kept, B, 2.25) == "standard"
    assert partition_tier(kept, ("c",), 1.5) is None
    # One that was made at another time is another partition, and forgotten with the next change.
    assert partition_tier(kept, A, 3.0) is None
    kept = with_partition_tier(
        declared_tiers(kept), B, {A: 3.0, B: 2.25}, {STORAGE_TIER: "standard"}
    )
    assert list(declared_tiers(kept)) == [B]


@pytest.mark.parametrize(
    ("properties", "words"),
    [({"lifecycle": "3"}, "'lifecycle'"), ({STORAGE_TIER: "warm"}, "'warm', not standard")],
)
def test_what_is_refused(properties: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        with_partition_tier({}, A, {A: 1.0}, properties)


def test_no_more_than_whoever_describes_the_table_can_be_told() -> None:
    many: dict[tuple[str, ...], tuple[float, str]] = {
        (str(n),): (1.0, "standard") for n in range(table_properties.MAX_PARTITIONS)
    }
    made_at = dict.fromkeys([*many, A], 1.0)
    with pytest.raises(LimitExceededError, match="TBLPROPERTIES"):
        with_partition_tier(many, A, made_at, {STORAGE_TIER: "standard"})


OTHERS = {
    "absent": None,
    "empty": "",
    "cut": "{",
    "number": "7",
    "object": "{}",
    "numbers": "[1]",
    "no values": "[[1, 2, 3]]",
    "deep": "[" * 100_000,
    "far moment": json.dumps([[["a"], 10**400, "standard"]]),
    "no moment": json.dumps([[["a"], "x", "standard"]]),
    "no tier": json.dumps([[["a"], 1.0, "warm"]]),
}


@pytest.mark.parametrize("kept", OTHERS.values(), ids=OTHERS.keys())
def test_other_properties_say_nothing(kept: str | None) -> None:
    assert declared_tiers(kept) == {}
    assert partition_tier(kept, ("a",), 1.0) is None
