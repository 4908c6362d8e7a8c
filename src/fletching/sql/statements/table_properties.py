"""The properties by which the service keeps what a table and its partitions are; people cannot set them by name.

Apart from the definitions of tables, since a server knows them without having loaded the language.

Of partitions it is their storage tiers, and which of them stay whatever the lifecycle of their table is::

    ALTER TABLE t PARTITION (pt = '1') SET PARTITIONPROPERTIES ('storagetier' = 'lowfrequency')
    ALTER TABLE t PARTITION (pt = '20261111') DISABLE LIFECYCLE

Tiers are kept as they were declared, and nothing else; there is one kind of storage. A table's tier is one of its
properties. What is said of its partitions is in two others, as JSON: by the partition's values, when it was made and
what its tier is. One that was dropped and made again is another partition, of which nothing is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from fletching.errors import InvalidArgumentError, LimitExceededError

__all__ = [
    "DISABLED",
    "ENABLED",
    "INTERNAL",
    "KEPT_PARTITIONS",
    "LIFECYCLE",
    "MAX_PARTITIONS",
    "PARTITION_TIERS",
    "SHARD_PROPERTIES",
    "STORAGE_TIER",
    "TIERED",
    "check_property_names",
    "declared_tiers",
    "kept_partitions",
    "partition_tier",
    "with_partition_lifecycle",
    "with_partition_tier",
]


INTERNAL = "fletching."
"""What the names of properties begin with that say what a table is: statements cannot set them."""

LIFECYCLE, DISABLED, ENABLED = f"{INTERNAL}lifecycle", "disabled", "enabled"
"""Property of a table whose partitions stay, whatever its lifecycle is, and its value; of a table that says nothing,
and of a partition, it may be enabled as well."""

SHARD_PROPERTIES = {"SHARDS": f"{INTERNAL}shards", "HUBLIFECYCLE": f"{INTERNAL}shards.lifecycle"}
"""Clauses of CREATE TABLE that are kept and reported, and the properties that keep them."""


def check_property_names(names: Iterable[str]) -> None:
    """Refuses to set properties by which it is kept what a table is.

    Raises:
        InvalidArgumentError: naming the first of them.
    """
    for name in names:
        if name.strip().casefold().startswith(INTERNAL):
            raise InvalidArgumentError(
                f"property {name!r} is the service's own: names that begin with {INTERNAL!r} cannot be set"
            )


STORAGE_TIER = "storagetier"
"""Property of a table or partition that clients set as its tier."""

PARTITION_TIERS = "fletching.partition.tiers"
"""Property of a table that holds those of its partitions."""

KEPT_PARTITIONS = f"{INTERNAL}partition.lifecycles"
"""Property of a table that says which of its partitions stay."""

TIERED = "odps.tiered.storage.enable"
"""A client's setting by which new tables say that their tier is the standard one."""

_TIERS = ("standard", "lowfrequency", "longterm", "coldarchive")
Values = tuple[str, ...]

MAX_PARTITIONS = 1000
"""Partitions of a table of which either is kept: whoever describes the table is told of all."""


def _entries(kept: str | None) -> dict[Values, tuple[float, *tuple[object, ...]]]:
    """By a partition's values when it was made, and what else; of a property that says nothing, nothing."""
    try:
        return {
            tuple(map(str, values)): (float(made_at), *more)
            for values, made_at, *more in json.loads(kept or "[]")
        }
    except (ValueError, TypeError, OverflowError, RecursionError):
        # Whoever may alter a table may set any of its properties.
        return {}


def declared_tiers(kept: str | None) -> dict[Values, tuple[float, str]]:
    """By a partition's values when it was made, and its tier."""
    return {
        values: (made_at, str(more[0]))
        for values, (made_at, *more) in _entries(kept).items()
        if len(more) == 1 and more[0] in _TIERS
    }


def kept_partitions(kept: str | None) -> dict[Values, float]:
    """The values of partitions that stay, and when each was made."""
    return {values: made_at for values, (made_at, *more) in _entries(kept).items() if not more}


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


def with_partition_lifecycle(
    kept: Mapping[Values, float], values: Values, made_at: Mapping[Values, float], state: str
) -> str:
    """The property that says whether a partition stays, too.

    Args:
        kept: what the property said; of partitions that are gone it says nothing any more.
        values: of the partition.
        made_at: when the partitions were made that there are.
        state: `DISABLED` if it stays, else `ENABLED`.

    Raises:
        InvalidArgumentError: another state.
        LimitExceededError: too many partitions stay.
    """
    if state not in {DISABLED, ENABLED}:
        raise InvalidArgumentError(f"the lifecycle of a partition is {DISABLED} or {ENABLED}")
    result = {each: made for each, made in kept.items() if made_at.get(each) == made}
    result.pop(values, None)
    if state == DISABLED:
        result[values] = made_at[values]
    if len(result) > MAX_PARTITIONS:
        raise LimitExceededError(
            "so many partitions of a table can be without its lifecycle: disable the table's",
            actual=len(result),
            limit=MAX_PARTITIONS,
        )
    return json.dumps([[list(each), made] for each, made in result.items()])
