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

from fletching.engine.writing.write_conversion import convertible, same_layout
from fletching.errors import InvalidArgumentError

__all__ = ["Match", "MatchKind", "match_schema"]


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
        required: per data column that may not be null although the body's may be: both positions.
    """

    kind: MatchKind
    columns: tuple[int | None, ...]
    partition_columns: tuple[int, ...]
    required: tuple[int, ...]


def match_schema(
    incoming: Any, stored: Any, partition_names: Sequence[str], partition_fields: Sequence[Any]
) -> Match:
    """Relates schemas.

    Args:
        incoming: the body's Arrow schema.
        stored: the table's Arrow schema, data columns only.
        partition_names: names of the partition columns that must come in the data.
        partition_fields: their Arrow fields.

    Raises:
        InvalidArgumentError: a column is unknown, twice there, missing though it is needed, or of
            a type that cannot be converted.
    """
    numbers: dict[str, int] = {}
    for number, name in enumerate(incoming.names):
        if name.casefold() in numbers:
            raise InvalidArgumentError(f"the data has column {name} twice (case does not count)")
        numbers[name.casefold()] = number
    partition_columns: list[int] = []
    for name, field in zip(partition_names, partition_fields, strict=True):
        found = numbers.pop(name.casefold(), None)
        if found is None:
            raise InvalidArgumentError(f"the data lacks partition column {name}, which is dynamic")
        if not convertible(incoming.field(found).type, field.type):
            raise InvalidArgumentError(
                f"partition column {name} is {incoming.field(found).type} in the data; "
                f"expected {field.type}"
            )
        partition_columns.append(found)
    columns: list[int | None] = []
    required: list[int] = []
    identical = True
    for number, field in enumerate(stored):
        found = numbers.pop(field.name.casefold(), None)
        columns.append(found)
        if found is None:
            identical = False
            if not field.nullable:
                raise InvalidArgumentError(f"the data lacks column {field.name}, which is not null")
            continue
        source = incoming.field(found)
        if not same_layout(source.type, field.type):
            identical = False
            if not convertible(source.type, field.type):
                raise InvalidArgumentError(
                    f"column {field.name} is {source.type} in the data; the table has {field.type}"
                )
        if not field.nullable:
            required.append(number)
    if numbers:
        unknown = ", ".join(sorted(incoming.field(i).name for i in numbers.values())[:10])
        raise InvalidArgumentError(f"the data has columns that the table does not: {unknown}")
    if not identical:
        kind = MatchKind.CONVERT
    elif columns == list(range(len(incoming))):
        kind = MatchKind.VERBATIM
    else:
        kind = MatchKind.PROJECT
    return Match(kind, tuple(columns), tuple(partition_columns), tuple(required))
