"""Columns that change: each schema of a table is kept, and columns are known by their ids.

Nothing that is stored changes. A segment is read by the schema that it was written in: a column that
is younger is null there, one that was dropped is not looked at, one that was widened is converted,
and a name says nothing. So every change of columns takes as long as any other, however large the
table; and a version is read in the schema that it had.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection

from fletching.catalog import table_rows as catalog
from fletching.catalog.publishing import Publication
from fletching.catalog.table_rows import TableRow
from fletching.engine.tables.schema_checks import MAX_COMMENT_LENGTH
from fletching.errors import InvalidArgumentError, UsageError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.changes import AlterColumn
from fletching.protocol.types.table_schema import (
    COMMENT_KEY,
    OdpsType,
    TypeCode,
    arrow_field,
    field_comment,
    format_type,
    odps_type_of_field,
    parse_type,
)

__all__ = [
    "Columns",
    "altered",
    "apply_columns",
    "dropped",
    "lacks_columns",
    "renamed",
    "restore_columns",
    "same_columns",
    "with_nested",
]

_INTEGERS = (TypeCode.TINYINT, TypeCode.SMALLINT, TypeCode.INT, TypeCode.BIGINT)
_FLOATS = (TypeCode.FLOAT, TypeCode.DOUBLE)
_TEXTS = (TypeCode.CHAR, TypeCode.VARCHAR, TypeCode.STRING)


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """The data columns of a table.

    Attributes:
        schema: the columns.
        ids: per column, the ids of its nodes depth-first.
        next_id: the next id that was never given.
        key: names of the key columns.
    """

    schema: pa.Schema
    ids: tuple[tuple[int, ...], ...]
    next_id: int
    key: tuple[str, ...]

    def index(self, name: str) -> int:
        """Where a column is.

        Raises:
            InvalidArgumentError: there is none of this name.
        """
        for number, known in enumerate(self.schema.names):
            if known.casefold() == name.casefold():
                return number
        raise InvalidArgumentError(f"the table has no data column {name!r}")

    def is_key(self, index: int) -> bool:
        """Whether a column is part of the primary key."""
        name = self.schema.field(index).name.casefold()
        return name in {each.casefold() for each in self.key}

    def with_fields(
        self, fields: Sequence[pa.Field], ids: Sequence[tuple[int, ...]], **changes: Any
    ) -> Columns:
        """Other columns, with the schema's own metadata."""
        schema = pa.schema(list(fields), metadata=self.schema.metadata)
        return dataclasses.replace(self, schema=schema, ids=tuple(ids), **changes)


def _columns_of(table: TableRow) -> Columns:
    schema = pa.ipc.read_schema(pa.py_buffer(table.arrow_schema))
    return Columns(schema, table.column_ids[: len(schema)], table.next_column_id, table.primary_key)


def apply_columns(
    connection: Connection,
    table: TableRow,
    change: Callable[[Columns], Columns],
    *,
    operation: str,
    now: float,
) -> int | None:
    """Gives a locked table other columns; returns the new table version, or None if they are the same.

    Args:
        connection: an open transaction.
        table: the table as read under its lock in this transaction.
        change: the columns that it gets, from those that it has.
        operation: what the table's history calls it.
        now: seconds since the epoch.

    Raises:
        InvalidArgumentError: what ``change`` refuses.
    """
    before = _columns_of(table)
    after = change(before)
    if after == before and after.schema.equals(before.schema, check_metadata=True):
        return None
    _add_schema(connection, table, after, now)
    publication = Publication(connection, table, operation, now=now, data_change=False)
    publication.change_schema(table.schema_version + 1)
    return publication.commit()


def _add_schema(connection: Connection, table: TableRow, after: Columns, now: float) -> None:
    catalog.add_schema_version(
        connection,
        table,
        arrow_schema=encode_schema(after.schema),
        column_ids=[
            *after.ids,
            *table.column_ids[len(table.column_ids) - len(table.partition_columns) :],
        ],
        next_column_id=after.next_id,
        primary_key=after.key,
        now=now,
    )


# --- the changes ---


def dropped(columns: Columns, names: Sequence[str]) -> Columns:
    """The columns without some.

    Raises:
        InvalidArgumentError: one is unknown, part of the key, or named twice; or none is left.
    """
    indices = [columns.index(name) for name in names]
    if not indices or len(set(indices)) != len(indices):
        raise InvalidArgumentError("name each column to drop once")
    for index in indices:
        if columns.is_key(index):
            raise InvalidArgumentError(
                f"column {columns.schema.field(index).name} is part of the primary key"
            )
    kept = [index for index in range(len(columns.schema)) if index not in indices]
    if not kept:
        raise InvalidArgumentError("a table has at least one data column")
    return columns.with_fields(
        [columns.schema.field(index) for index in kept], [columns.ids[index] for index in kept]
    )


def renamed(columns: Columns, name: str, new_name: str) -> Columns:
    """The columns with one of another name; that the name is free is the caller's to check.

    Raises:
        InvalidArgumentError: there is no such column.
    """
    index = columns.index(name)
    old = columns.schema.field(index).name
    fields = [
        field.with_name(new_name) if number == index else field
        for number, field in enumerate(columns.schema)
    ]
    key = tuple(new_name if each == old else each for each in columns.key)
    return columns.with_fields(fields, columns.ids, key=key)


def altered(columns: Columns, request: AlterColumn) -> Columns:
    """The columns with one of a wider type, nullable, with another comment, or in another place.

    Raises:
        InvalidArgumentError: there is no such column, or it cannot be changed so.
    """
    index = columns.index(request.name)
    field = columns.schema.field(index)
    if request.type is not None:
        field = _widened(field, request.type, is_key=columns.is_key(index))
    if request.nullable is not None and request.nullable != field.nullable:
        if not request.nullable:
            raise InvalidArgumentError(
                f"column {field.name} may be null, and rows that are may have nulls there"
            )
        if columns.is_key(index):
            raise InvalidArgumentError(f"column {field.name} is part of the primary key")
        field = field.with_nullable(True)
    if request.comment is not None:
        if len(request.comment) > MAX_COMMENT_LENGTH:
            raise InvalidArgumentError(f"a comment has at most {MAX_COMMENT_LENGTH} characters")
        metadata = dict(field.metadata or {})
        metadata.pop(COMMENT_KEY, None)
        if request.comment:
            metadata[COMMENT_KEY] = request.comment.encode()
        field = field.with_metadata(metadata or None)
    order = list(range(len(columns.schema)))
    if request.after is not None:
        order.remove(index)
        behind = -1 if not request.after else order.index(_other(columns, request.after, index))
        order.insert(behind + 1, index)
    fields = [field if each == index else columns.schema.field(each) for each in order]
    return columns.with_fields(fields, [columns.ids[each] for each in order])


def _other(columns: Columns, name: str, index: int) -> int:
    result = columns.index(name)
    if result == index:
        raise InvalidArgumentError(f"column {name} cannot stand behind itself")
    return result


def _widened(field: pa.Field, text: str, *, is_key: bool) -> pa.Field:
    try:
        wanted = parse_type(text)
        had = odps_type_of_field(field)
        made = arrow_field(
            field.name, wanted, nullable=field.nullable, comment=field_comment(field)
        )
    except UsageError as error:
        raise InvalidArgumentError(f"column {field.name}: {error.message}") from error
    if format_type(wanted) == format_type(had):
        return field
    if not _is_wider(had, wanted):
        raise InvalidArgumentError(
            f"column {field.name} is {format_type(had)} and cannot become {format_type(wanted)}: "
            "only types that hold every value of the old one can"
        )
    if is_key and had.code not in _INTEGERS:
        raise InvalidArgumentError(
            f"column {field.name} is part of the primary key; of keys only integers can be widened"
        )
    if pa.types.is_large_string(field.type) or pa.types.is_dictionary(field.type):
        made = made.with_type(field.type)
    return made


def is_widened(had: pa.Field, wanted: pa.Field) -> bool:
    """Whether a column has a type to which the other's can be widened; False for types that ODPS lacks."""
    if had.type == wanted.type and had.metadata == wanted.metadata:
        return False
    try:
        return _is_wider(odps_type_of_field(had), odps_type_of_field(wanted))
    except UsageError:
        return False


def _is_wider(had: OdpsType, wanted: OdpsType) -> bool:
    for kinds in (_INTEGERS, _FLOATS):
        if had.code in kinds and wanted.code in kinds:
            return kinds.index(wanted.code) > kinds.index(had.code)
    if had.code is TypeCode.DECIMAL and wanted.code is TypeCode.DECIMAL:
        more = (wanted.precision or 0) - (had.precision or 0)
        return wanted.scale == had.scale and more > 0
    if had.code in _TEXTS and wanted.code in _TEXTS:
        if wanted.code is TypeCode.STRING:
            return True
        if had.code is TypeCode.STRING:
            return False
        # Blanks at the end of a CHAR do not count; of a VARCHAR they do.
        longer = (wanted.length or 0) >= (had.length or 0)
        return longer and not (had.code is TypeCode.VARCHAR and wanted.code is TypeCode.CHAR)
    return False


def with_nested(columns: Columns, added: pa.Field) -> tuple[Columns, list[pa.Field]]:
    """Puts fields whose name begins with a struct column's, and a dot, into that struct.

    Returns:
        The columns, and the fields that are columns of their own.

    Raises:
        InvalidArgumentError: the struct has such a field.
    """
    others: list[pa.Field] = []
    for field in added:
        head, dot, rest = field.name.partition(".")
        index = next(
            (
                n
                for n, known in enumerate(columns.schema)
                if known.name.casefold() == head.casefold()
            ),
            None,
        )
        if not dot or index is None or not pa.types.is_struct(columns.schema.field(index).type):
            others.append(field)
            continue
        owner = columns.schema.field(index)
        made, ids, free = _nested(owner, columns.ids[index], rest, field, columns.next_id)
        fields = [made if n == index else known for n, known in enumerate(columns.schema)]
        all_ids = [ids if n == index else known for n, known in enumerate(columns.ids)]
        columns = columns.with_fields(fields, all_ids, next_id=free)
    return columns, others


def _nested(
    owner: pa.Field, ids: tuple[int, ...], path: str, added: pa.Field, free: int
) -> tuple[pa.Field, tuple[int, ...], int]:
    """A struct field with one more field at a path; its ids; the next free id."""
    head, dot, rest = path.partition(".")
    children = [owner.type.field(number) for number in range(owner.type.num_fields)]
    counts = [odps_type_of_field(child).node_count for child in children]
    if sum(counts) + 1 != len(ids):
        raise InvalidArgumentError(f"column {owner.name} cannot get fields")
    index = next(
        (n for n, child in enumerate(children) if child.name.casefold() == head.casefold()), None
    )
    if not dot:
        if index is not None:
            raise InvalidArgumentError(f"struct {owner.name} has a field {head} already")
        count = odps_type_of_field(added).node_count
        made = pa.struct([*children, added.with_name(head)])
        return owner.with_type(made), (*ids, *range(free, free + count)), free + count
    if index is None or not pa.types.is_struct(children[index].type):
        raise InvalidArgumentError(f"struct {owner.name} has no struct {head}")
    start = 1 + sum(counts[:index])
    inner, inner_ids, free = _nested(
        children[index], ids[start : start + counts[index]], rest, added, free
    )
    made = pa.struct([inner if n == index else child for n, child in enumerate(children)])
    return (
        owner.with_type(made),
        (*ids[:start], *inner_ids, *ids[start + counts[index] :]),
        free,
    )


# --- what was ---


def same_columns(connection: Connection, table: TableRow, schema_version: int) -> bool:
    """Whether an older schema is the table's schema of now."""
    then = catalog.schema_history(connection, table.id)[schema_version]
    return then.arrow_schema == table.arrow_schema and then.column_ids == table.column_ids


def lacks_columns(connection: Connection, table: TableRow, schema_version: int) -> bool:
    """Whether an older schema has columns, or fields of structs, that the table has not now."""
    then = catalog.schema_history(connection, table.id)[schema_version]
    return not {*chain(*then.column_ids)} <= {*chain(*table.column_ids)}


def restore_columns(
    connection: Connection, table: TableRow, schema_version: int, now: float
) -> int:
    """Gives a locked table the columns of an older schema, as a new one; returns its version.

    The ids are those of the older columns, so that what was written under them is found again;
    numbers that were given since are not given again.
    """
    then = catalog.schema_history(connection, table.id)[schema_version]
    schema = pa.ipc.read_schema(pa.py_buffer(then.arrow_schema))
    now_columns = _columns_of(table)
    ids = [now_columns.ids[now_columns.index(name)][0] for name in table.primary_key]
    at = {then.column_ids[number][0]: schema.field(number).name for number in range(len(schema))}
    catalog.add_schema_version(
        connection,
        table,
        arrow_schema=then.arrow_schema,
        column_ids=then.column_ids,
        next_column_id=table.next_column_id,
        primary_key=tuple(at[number] for number in ids),
        now=now,
    )
    return table.schema_version + 1
