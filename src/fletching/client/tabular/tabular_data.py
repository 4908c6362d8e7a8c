"""Anything tabular as a schema and a stream of record batches, a batch in memory at a time.

Taken, in this order:

- ``pyarrow.RecordBatch``, ``Table``, ``RecordBatchReader``, ``Dataset`` and ``Scanner``
- pandas data frames, a slice of rows at a time (a named index becomes columns, an unnamed one is
  dropped)
- objects with ``__arrow_c_stream__`` (polars, DuckDB, nanoarrow, ...) or ``__arrow_c_array__``
- a dict of columns, or a list of dicts with one row each
- any other iterable: of all of the above, one after another

Where the target's schema is known, `aligned` gives batches exactly that schema, so that the service
stores them as sent: columns are found by name (case-insensitive), reordered, cast where no value
changes, and missing nullable columns are null.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import UsageError

__all__ = ["BatchStream", "align_batch", "aligned", "batches_of", "resized", "with_constants"]

PANDAS_SLICE_ROWS = 128 * 1024
"""Rows of a pandas frame converted at once: conversion copies, so this bounds the copy."""


@dataclasses.dataclass(frozen=True, slots=True)
class BatchStream:
    """A schema and the batches that have it; can be iterated once."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The batches."""
        return self.batches


def batches_of(data: Any, schema: pa.Schema | None = None) -> BatchStream:
    """Reads tabular data as batches; nothing is copied that is Arrow already.

    Args:
        data: see the module.
        schema: the schema wanted, if known. It decides the types of Python values (dicts), which
            have none of their own; other data keeps its own schema (see `aligned`).

    Raises:
        UsageError: the data is of no known kind, or an iterable without any item and no ``schema``.
    """
    if isinstance(data, pa.RecordBatch):
        return BatchStream(data.schema, iter([data]))
    if isinstance(data, pa.Table):
        return BatchStream(data.schema, iter(data.to_batches()))
    if isinstance(data, pa.RecordBatchReader):
        return BatchStream(data.schema, iter(data))
    if _is_pandas(data):
        return _from_pandas(data)
    if _is_dataset(data):
        reader = (data.scanner() if hasattr(data, "scanner") else data).to_reader()
        return BatchStream(reader.schema, iter(reader))
    if hasattr(data, "__arrow_c_stream__"):
        reader = _imported(pa.RecordBatchReader.from_stream, data)
        return BatchStream(reader.schema, iter(reader))
    if hasattr(data, "__arrow_c_array__"):
        batch = _imported(pa.record_batch, data)
        return BatchStream(batch.schema, iter([batch]))
    if isinstance(data, Mapping):
        return _from_columns(data, schema)
    if isinstance(data, Sequence) and data and isinstance(data[0], Mapping):
        return _from_rows(data, schema)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | bytearray | memoryview):
        return _from_iterable(data, schema)
    raise UsageError(
        f"cannot read {type(data).__name__} as a table; give Arrow, pandas or polars data, "
        "a dict of columns, a list of dicts, or an iterable of these"
    )


def _is_pandas(data: Any) -> bool:
    # By name: importing pandas to ask costs half a second and is an option of the caller's.
    return any(
        cls.__module__.partition(".")[0] == "pandas" and cls.__name__ == "DataFrame"
        for cls in type(data).__mro__
    )


def _is_dataset(data: Any) -> bool:
    return any(
        cls.__module__ == "pyarrow._dataset" and cls.__name__ in {"Dataset", "Scanner"}
        for cls in type(data).__mro__
    )


def _imported(take: Any, data: Any) -> Any:
    """Imports through the C interface; data of single values instead of rows is refused."""
    try:
        return take(data)
    except (pa.ArrowInvalid, TypeError) as exc:
        raise UsageError(f"the Arrow data of {type(data).__name__} holds no rows: {exc}") from exc


def _from_pandas(frame: Any) -> BatchStream:
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    try:
        schema = pa.Schema.from_pandas(frame, preserve_index=False).remove_metadata()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
        raise UsageError(f"a column of the data frame has no Arrow type: {exc}") from exc

    def slices() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(frame), PANDAS_SLICE_ROWS):
            part = frame.iloc[start : start + PANDAS_SLICE_ROWS]
            yield pa.RecordBatch.from_pandas(part, schema=schema, preserve_index=False)

    return BatchStream(schema, slices())


def _from_columns(columns: Mapping[str, Any], schema: pa.Schema | None) -> BatchStream:
    given = None if schema is None else _fields_named(schema, columns)
    try:
        table = pa.table(dict(columns)) if given is None else pa.table(dict(columns), schema=given)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError) as exc:
        raise UsageError(f"the columns do not make a table: {exc}") from exc
    return BatchStream(table.schema, iter(table.to_batches()))


def _from_rows(rows: Sequence[Any], schema: pa.Schema | None) -> BatchStream:
    names = dict.fromkeys(itertools.chain.from_iterable(rows))
    given = None if schema is None else _fields_named(schema, names)
    try:
        table = pa.Table.from_pylist(
            list(rows), schema=given or pa.schema([(name, _inferred(rows, name)) for name in names])
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError) as exc:
        raise UsageError(f"the rows do not make a table: {exc}") from exc
    return BatchStream(table.schema, iter(table.to_batches()))


def _inferred(rows: Sequence[Any], name: str) -> pa.DataType:
    return pa.array([row.get(name) for row in rows]).type


def _fields_named(schema: pa.Schema, names: Iterable[str]) -> pa.Schema | None:
    """The fields of ``schema`` for these names, under the names as given; None if one is unknown."""
    by_name = {field.name.casefold(): field for field in schema}
    fields = []
    for name in names:
        field = by_name.get(name.casefold())
        if field is None:
            return None
        # Nullability is checked in `align_batch`, with the column's name in the message.
        fields.append(field.with_name(name).with_nullable(True))
    return pa.schema(fields)


def _from_iterable(items: Iterable[Any], schema: pa.Schema | None) -> BatchStream:
    iterator = iter(items)
    first = next(iterator, None)
    if first is None:
        if schema is None:
            raise UsageError("the data is an iterable without items and there is no schema for it")
        return BatchStream(schema, iter(()))
    if isinstance(first, str | bytes | int | float | tuple):
        raise UsageError(
            f"an iterable of {type(first).__name__} is not a table; give record batches, tables, "
            "data frames or dicts"
        )
    if isinstance(first, Mapping):
        return _from_mappings(first, iterator, schema)
    head = batches_of(first, schema)

    def chained() -> Iterator[pa.RecordBatch]:
        yield from head.batches
        for item in iterator:
            yield from batches_of(item, schema).batches

    return BatchStream(head.schema, chained())


MAPPINGS_AT_ONCE = 4096
"""Dicts of an iterable that become one batch, when each is a row."""


def _from_mappings(first: Any, rest: Iterator[Any], schema: pa.Schema | None) -> BatchStream:
    """An iterable of dicts: rows if the values of the first are scalars, else columns."""
    if any(_is_column(value) for value in first.values()) and not _fits_a_row(first, schema):
        head = _from_columns(first, schema)
        more = itertools.chain.from_iterable(
            _from_columns(item, schema or head.schema).batches for item in rest
        )
        return BatchStream(head.schema, itertools.chain(head.batches, more))
    rows = itertools.chain([first], rest)
    head = _from_rows(list(itertools.islice(rows, MAPPINGS_AT_ONCE)), schema)

    def chained() -> Iterator[pa.RecordBatch]:
        yield from head.batches
        while part := list(itertools.islice(rows, MAPPINGS_AT_ONCE)):
            yield from _from_rows(part, schema or head.schema).batches

    return BatchStream(head.schema, chained())


def _is_column(value: Any) -> bool:
    return isinstance(value, list | pa.Array | pa.ChunkedArray) or (
        hasattr(value, "__array__") and getattr(value, "ndim", 0) > 0
    )


def _fits_a_row(item: Mapping[str, Any], schema: pa.Schema | None) -> bool:
    """Whether lists in the item are values of list columns rather than columns."""
    if schema is None:
        return False
    nested = {field.name.casefold() for field in schema if pa.types.is_nested(field.type)}
    return all(name.casefold() in nested or not _is_column(value) for name, value in item.items())


# --- to the table's schema -------------------------------------------------------------------


def aligned(stream: BatchStream, target: pa.Schema) -> BatchStream:
    """The stream with every batch in exactly the target's schema (see `align_batch`).

    Raises:
        UsageError: from the iterator, or at once if the stream's own schema cannot fit.
    """
    if not stream.schema.equals(target):
        align_batch(empty_batch(stream.schema), target)
    return BatchStream(target, (align_batch(batch, target) for batch in stream.batches))


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """A batch of the schema with no rows."""
    return pa.RecordBatch.from_arrays([_nulls(field.type, 0) for field in schema], schema=schema)


def align_batch(batch: pa.RecordBatch, target: pa.Schema) -> pa.RecordBatch:
    """The batch in exactly the target's schema; the batch itself if it has it already.

    Only columns whose type differs are copied (cast). A cast that would change a value fails.

    Raises:
        UsageError: a column that the target lacks, a missing or null value where the target allows
            none, two columns of one name, or a type that cannot be cast without loss.
    """
    if batch.schema.equals(target):
        return batch
    given: dict[str, int] = {}
    for position, name in enumerate(batch.schema.names):
        if given.setdefault(name.casefold(), position) != position:
            raise UsageError(f"the data has two columns named {name!r}")
    arrays = []
    for field in target:
        position_or_none = given.pop(field.name.casefold(), None)
        if position_or_none is None:
            if not field.nullable:
                raise UsageError(f"column {field.name!r} is missing and is not nullable")
            arrays.append(_nulls(field.type, batch.num_rows))
            continue
        column = batch.column(position_or_none)
        if not field.nullable and column.null_count:
            raise UsageError(f"column {field.name!r} holds nulls and is not nullable")
        arrays.append(_cast(column, field))
    if given:
        names = ", ".join(repr(batch.schema.names[position]) for position in given.values())
        raise UsageError(f"the table has no column {names}; it has {', '.join(target.names)}")
    # The row count stands by itself for a table without columns.
    return pa.RecordBatch.from_arrays(arrays, schema=target)


def _nulls(data_type: pa.DataType, length: int) -> pa.Array:
    if isinstance(data_type, pa.BaseExtensionType):
        return data_type.wrap_array(pa.nulls(length, data_type.storage_type))
    return pa.nulls(length, data_type)


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    if column.type.equals(field.type):
        return column
    try:
        if isinstance(field.type, pa.BaseExtensionType):
            storage = column.storage if isinstance(column, pa.ExtensionArray) else column
            return field.type.wrap_array(_plain(storage).cast(field.type.storage_type))
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        return _plain(column).cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as exc:
        raise UsageError(
            f"column {field.name!r} is {column.type} and cannot become {field.type}: {exc}"
        ) from exc


def _plain(column: pa.Array) -> pa.Array:
    """Encoded arrays as their values: pyarrow casts those to fewer types than plain ones."""
    if isinstance(column, pa.DictionaryArray):
        return column.dictionary_decode()
    if isinstance(column, pa.RunEndEncodedArray):
        return pc.run_end_decode(column)
    return column


def with_constants(stream: BatchStream, values: Iterable[tuple[str, str]]) -> BatchStream:
    """The stream with columns of one text value appended, where it lacks them."""
    names = {name.casefold() for name in stream.schema.names}
    missing = [(name, value) for name, value in values if name.casefold() not in names]

    def widened(batch: pa.RecordBatch) -> pa.RecordBatch:
        for name, value in missing:
            batch = batch.append_column(
                name, pa.repeat(pa.scalar(value, pa.string()), batch.num_rows)
            )
        return batch

    schema = pa.schema([*stream.schema, *((name, pa.string()) for name, _ in missing)])
    return BatchStream(schema, (widened(batch) for batch in stream.batches))


def resized(batches: Iterable[pa.RecordBatch], limit_bytes: int) -> Iterator[pa.RecordBatch]:
    """The same rows with no batch much above a size, cut into row slices without copying.

    Rows are taken to be of about equal length; a single row is never cut. Empty batches are left
    out: they hold nothing and cost a message each.
    """
    for batch in batches:
        if batch.num_rows == 0:
            continue
        parts = -(-batch.nbytes // limit_bytes)
        rows = max(1, -(-batch.num_rows // max(1, parts)))
        if rows >= batch.num_rows:
            yield batch
            continue
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)
