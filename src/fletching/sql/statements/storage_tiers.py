"""Storage tiers: kept as they were declared, and nothing else; there is one kind of storage.

::

    ALTER TABLE t SET TBLPROPERTIES ('storagetier' = 'longterm')
    ALTER TABLE t PARTITION (pt = '1') SET PARTITIONPROPERTIES ('storagetier' = 'lowfrequency')

A table's is one of its properties. Those of its partitions are in another, as JSON: by the partition's
values, when it was made and what its tier is. One that was dropped and made again is another partition.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from fletching.errors import InvalidArgumentError, LimitExceededError

__all__ = [
    "PARTITION_TIERS",
    "STORAGE_TIER",
    "TIERED",
    "declared_tiers",
    "partition_tier",
    "with_partition_tier",
]

STORAGE_TIER = "storagetier"
"""Property of a table or partition that clients set as its tier."""

PARTITION_TIERS = "fletching.partition.tiers"
"""Property of a table that holds those of its partitions."""

TIERED = "odps.tiered.storage.enable"
"""A client's setting by which new tables say that their tier is the standard one."""

_TIERS = ("standard", "lowfrequency", "longterm", "coldarchive")
Values = tuple[str, ...]

MAX_PARTITIONS = 1000
"""Partitions of a table that a tier is kept of: whoever describes the table is told of all."""


def declared_tiers(kept: str | None) -> dict[Values, tuple[float, str]]:
    """By a partition's values when it was made, and its tier; of a property that says nothing, nothing."""
    try:
        result = json.loads(kept or "[]")
        return {
            tuple(map(str, values)): (float(made_at), tier)
            for values, made_at, tier in result
            if tier in _TIERS
        }
    except (ValueError, TypeError, OverflowError, RecursionError):
        # Whoever may alter a table may set any of its properties.
        return {}


def partition_tier(kept: str | None, values: Values, made_at: float) -> str | None:
    """The tier of a partition that was made at a moment; None if the property has none for it."""
    declared_at, tier = declared_tiers(kept).get(values, (None, None))
    return tier if declared_at == made_at else None


def with_partition_tier(
    tiers: Mapping[Values, tuple[float, str]],
    values: Values,
    made_at: Mapping[Values, float],
    properties: Mapping[str, str],
) -> str:
    """The property that says a partition's tier, too.

    Args:
        tiers: what the property said; of partitions that are gone it says nothing any more.
        values: of the partition.
        made_at: when the partitions were made that there are.
        properties: what the partition's are to be.

    Raises:
        InvalidArgumentError: a property that partitions do not have, or no tier.
        LimitExceededError: of too many partitions.
    """
    known = {each: result for each, result in tiers.items() if made_at.get(each) == result[0]}
    for name, value in properties.items():
        if name.casefold() != STORAGE_TIER:
            raise InvalidArgumentError(
                f"partitions have no property {name[:100]!r}: {STORAGE_TIER} is the only one"
            )
        tier = value.casefold()
        if tier not in _TIERS:
            raise InvalidArgumentError(f"{STORAGE_TIER} is {value[:40]!r}, not {', '.join(_TIERS)}")
        known[values] = (made_at[values], tier)
    if len(known) > MAX_PARTITIONS:
        raise LimitExceededError(
            "tiers are kept of so many partitions of a table only: set the table's with TBLPROPERTIES",
            actual=len(known),
            limit=MAX_PARTITIONS,
        )
    return json.dumps([[list(each), *result] for each, result in known.items()])
