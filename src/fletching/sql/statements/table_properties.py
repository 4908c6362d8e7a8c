"""Names of the properties by which the service keeps what a table is; people cannot set them in statements.

Apart from the definitions of tables, since a server knows them without having loaded the language.
"""

from __future__ import annotations

from collections.abc import Iterable

from fletching.errors import InvalidArgumentError

__all__ = [
    "DISABLED",
    "ENABLED",
    "INTERNAL",
    "LIFECYCLE",
    "SHARD_PROPERTIES",
    "check_property_names",
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
