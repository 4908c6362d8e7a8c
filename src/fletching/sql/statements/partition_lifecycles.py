"""Partitions that stay, whatever the lifecycle of their table is.

::

    ALTER TABLE t PARTITION (pt = '20261111') DISABLE LIFECYCLE

They are in a property of the table, as JSON: a partition's values, and when it was made. One that was dropped
and made again is another partition, whose lifecycle is the table's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from fletching.errors import InvalidArgumentError, LimitExceededError
from fletching.sql.statements.table_properties import DISABLED, ENABLED, INTERNAL

__all__ = ["KEPT_PARTITIONS", "MAX_KEPT", "kept_partitions", "with_partition_lifecycle"]

KEPT_PARTITIONS = f"{INTERNAL}partition.lifecycles"
"""Property of a table that says which of its partitions stay."""

MAX_KEPT = 1000
"""Partitions of a table that stay: whoever describes the table is told of all."""

Values = tuple[str, ...]


def kept_partitions(property_: str | None) -> dict[Values, float]:
    """The values of partitions that stay, and when each was made; of a property that says nothing, none."""
    try:
        return {
            tuple(map(str, values)): float(made_at)
            for values, made_at in json.loads(property_ or "[]")
        }
    except (ValueError, TypeError, OverflowError, RecursionError):
        # Whoever may alter a table may set any of its properties.
        return {}


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
    if len(result) > MAX_KEPT:
        raise LimitExceededError(
            "so many partitions of a table can be without its lifecycle: disable the table's",
            actual=len(result),
            limit=MAX_KEPT,
        )
    return json.dumps([[list(each), made] for each, made in result.items()])
