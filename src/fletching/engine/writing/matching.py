"""How the schema of an Arrow body relates to what the table stores.

Columns match by name, case-insensitively. Three outcomes, from cheap to dear: the messages are
stored as they are; columns are dropped or moved by rewriting metadata; batches are converted and
encoded again.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any

from fletching.errors import InvalidArgumentError, UsageError
from fletching.protocol.types.conversion import (
    Relation,
    column_plan,
    convert,
    refusal,
    relation,
)

__all__ = ["Match", "MatchKind", "match_schema", "stored_array"]


class MatchKind(enum.Enum):
    """What a body's batches need."""

    VERBATIM = "verbatim"
    PROJECT = "project"
    CONVERT = "convert"


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """The relation of a body's schema to a table's.

    Attributes:
        kind: what its batches need.
        columns: per data column of the table, the body's column; None is filled with null.
        partition_columns: per dynamic partition column, the body's column.
    """

    kind: MatchKind
    columns: tuple[int | None, ...]
    partition_columns: tuple[int, ...]


def match_schema(incoming: Any, stored: Any, partition_fields: Sequence[Any]) -> Match:
    """Relates schemas.

    Args:
        incoming: the body's Arrow schema.
        stored: the table's Arrow schema, data columns only.
        partition_fields: the Arrow fields of the partition columns that must come in the data.

    Raises:
        InvalidArgumentError: a column is unknown, twice there, missing though it is needed, or of
            a type that cannot be converted.
    """
    needed = [field.with_nullable(False) for field in partition_fields]
    fields = list(incoming)
    try:
        plan = column_plan(fields, [*needed, *stored], what="column")
    except UsageError as error:
        raise InvalidArgumentError(error.message) from error
    identical = True
    for number, field in zip(plan, [*needed, *stored], strict=True):
        if number is None:
            identical = False
            continue
        source = fields[number]
        found = relation(source.type, field.type)
        if found is Relation.REFUSED:
            raise InvalidArgumentError(
                f"column {field.name!r} is {source.type} in the data and {field.type} in the table: "
                f"{refusal(source.type, field.type)}"
            )
        if found is not Relation.AS_IS and not any(field is one for one in needed):
            identical = False
    count = len(needed)
    columns = plan[count:]
    if not identical:
        kind = MatchKind.CONVERT
    elif columns == tuple(range(len(fields))):
        kind = MatchKind.VERBATIM
    else:
        kind = MatchKind.PROJECT
    return Match(kind, columns, tuple(number for number in plan[:count] if number is not None))


def stored_array(array: Any, target: Any, column: str) -> Any:
    """The values of the data in the table's type (see `fletching.protocol.types.conversion`).

    Raises:
        InvalidArgumentError: a value has no equal in the type.
    """
    try:
        return convert(array, target, column)
    except UsageError as error:
        raise InvalidArgumentError(error.message) from error
