"""How the schema of an Arrow body relates to what the table stores.

Columns match by name, case-insensitively. Three outcomes, from cheap to dear: the messages are
stored as they are; columns are dropped or moved by rewriting metadata; batches are converted and
encoded again.

What is stored as it came must also have the form of what stands in a file.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Collection, Sequence
from typing import overload

import pyarrow as pa

from fletching import ipc
from fletching.errors import InvalidArgumentError, UsageError
from fletching.ipc.metadata import RecordBatchHeader
from fletching.ipc.schema_header import schema_header
from fletching.protocol.types.conversion import Relation, column_plan, convert, refusal, relation

__all__ = [
    "InOrder",
    "Match",
    "MatchKind",
    "dictionary_ids",
    "is_aligned",
    "is_spelt",
    "match_schema",
    "stored_array",
]


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
        missing: data columns that may not be null and that the body lacks: its rows may only delete.
        operation: the body's column that says what each row is for, if it has one.
    """

    kind: MatchKind
    columns: tuple[int | None, ...]
    partition_columns: tuple[int, ...]
    missing: tuple[int, ...] = ()
    operation: int | None = None


def match_schema(
    incoming: pa.Schema,
    stored: pa.Schema,
    partition_fields: Sequence[pa.Field],
    *,
    operation_name: str | None = None,
    keys: Collection[str] = (),
    by_position: bool = False,
    fixed: Collection[str] = (),
) -> Match:
    """Relates schemas.

    Args:
        incoming: the body's Arrow schema.
        stored: the table's Arrow schema, data columns only.
        partition_fields: the Arrow fields of the partition columns that must come in the data.
        operation_name: the column that says what each row is for, in a table with a key.
        keys: case-folded names of the key columns, which every body has.
        by_position: a body with as many columns as the table and a name that the table lacks has them in
            the table's order, those of partitions behind the others.
        fixed: case-folded names of the partition columns that must not come in the data.

    Raises:
        InvalidArgumentError: a column is unknown, twice there, missing though it is needed, or of
            a type that cannot be converted.
    """
    if not partition_fields and incoming.equals(stored):
        # What our own client sends; of 5,000 columns this is a twentieth of looking at each.
        return Match(MatchKind.VERBATIM, tuple(range(len(incoming))), ())
    needed = [field.with_nullable(False) for field in partition_fields]
    fields = list(
        _named_by_position(incoming, stored, partition_fields) if by_position else incoming
    )
    operation = _index_of(fields, operation_name)
    wanted = list(stored)
    indices = list(range(len(fields)))
    if operation is not None:
        # Rows that only delete have nothing but their keys.
        wanted = [
            field if field.name.casefold() in keys else field.with_nullable(True)
            for field in stored
        ]
        del fields[operation], indices[operation]
    try:
        plan = column_plan(fields, [*needed, *wanted], what="column", fixed=fixed)
    except UsageError as error:
        raise InvalidArgumentError(error.message) from error
    identical = True
    for index, (number, field) in enumerate(zip(plan, [*needed, *wanted], strict=True)):
        if number is None:
            identical = False
            continue
        source = fields[number]
        if index < len(needed) and is_spelt(source.type, field.type):
            continue
        result = relation(source.type, field.type)
        if result is Relation.REFUSED:
            raise InvalidArgumentError(
                f"column {field.name!r} is {source.type} in the data and {field.type} in the table: "
                f"{refusal(source.type, field.type)}"
            )
        if result is not Relation.AS_IS and index >= len(needed):
            identical = False
    count = len(needed)
    columns = tuple(None if number is None else indices[number] for number in plan[count:])
    missing = tuple(
        at for at, number in enumerate(columns) if number is None and not stored.field(at).nullable
    )
    if not identical:
        kind = MatchKind.CONVERT
    elif columns == tuple(range(len(incoming))):
        kind = MatchKind.VERBATIM
    else:
        kind = MatchKind.PROJECT
    dynamic = tuple(indices[number] for number in plan[:count] if number is not None)
    return Match(kind, columns, dynamic, missing, operation)


def _named_by_position(
    incoming: pa.Schema, stored: pa.Schema, partition_fields: Sequence[pa.Field]
) -> Sequence[pa.Field]:
    """A body's columns with the table's names, if there are as many and the table lacks one."""
    names = [*stored.names, *(field.name for field in partition_fields)]
    known = {name.casefold() for name in names}
    if len(names) != len(incoming) or all(name.casefold() in known for name in incoming.names):
        return list(incoming)
    return [field.with_name(name) for field, name in zip(incoming, names, strict=True)]


def is_spelt(source: pa.DataType, target: pa.DataType) -> bool:
    """Whether values of a partition column are integers that name partitions by their digits."""
    return bool(pa.types.is_integer(source) and pa.types.is_string(target))


def _index_of(fields: Sequence[pa.Field], name: str | None) -> int | None:
    for number, field in enumerate(fields):
        if name is not None and field.name.casefold() == name:
            return number
    return None


def stored_array(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    """The values of the data in the table's type (see `fletching.protocol.types.conversion`).

    Raises:
        InvalidArgumentError: a value has no equal in the type.
    """
    try:
        return convert(array, target, column)
    except UsageError as error:
        raise InvalidArgumentError(error.message) from error


def is_aligned(message: ipc.Message, header: RecordBatchHeader) -> bool:
    """Whether a message can stand in a file as it is: all it holds starts at multiples of 8."""
    return (
        message.prefix_length == 8
        and message.metadata_length % 8 == 0
        and message.body_length % 8 == 0
        and not (header.buffers[:, 0] & 7).any()
    )


# Of tables at work: some numbers each, under bytes that the catalog's row has.
@functools.lru_cache(maxsize=64)
def dictionary_ids(schema_message: bytes) -> tuple[int, ...]:
    """The ids of the dictionaries of a schema, in the order of its fields."""
    message = next(iter(ipc.messages(schema_message)))
    return tuple(n for field in schema_header(message).fields for n in field.dictionary_ids)


class InOrder(Sequence[pa.Array]):
    """A batch's columns in another order, made when they are asked for: of thousands few are."""

    def __init__(self, batch: pa.RecordBatch, order: Sequence[int | None]) -> None:
        self._batch = batch
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> pa.Array: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[pa.Array]: ...

    def __getitem__(self, index: int | slice) -> pa.Array | Sequence[pa.Array]:
        if isinstance(index, slice):
            return InOrder(self._batch, self._order[index])
        at = self._order[index]
        assert at is not None  # stored as it is, so that the body has every column
        return self._batch.column(at)
