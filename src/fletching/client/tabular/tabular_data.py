"""Anything tabular as a schema and a stream of record batches, a batch in memory at a time.

Taken, in this order:

- ``pyarrow.RecordBatch``, ``Table``, ``RecordBatchReader``, ``Dataset`` and ``Scanner``
- pandas data frames, a slice of rows at a time (a named index becomes columns, an unnamed one is
  dropped)
- objects with ``__arrow_c_stream__`` (polars, DuckDB, nanoarrow, ...) or ``__arrow_c_array__``
- a dict of columns, or a list of dicts with one row each
- any other iterable: of all of the above, one after another

What has no types of its own (dicts, columns of objects) gets those of the table
(`fletching.client.tabular.python_values`); `fletching.client.tabular.alignment` brings the rest to
the table's schema.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from fletching.client.tabular.python_values import column_array, python_array
from fletching.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds

__all__ = [
    "BatchStream",
    "are_columns",
    "batches_of",
    "is_pandas",
    "rows_as_columns",
    "with_text_names",
    "without_columns",
]

_NOTHING = object()

PANDAS_SLICE_ROWS = 128 * 1024
"""Rows of a pandas frame converted at once: conversion copies, so this bounds the copy."""


@dataclasses.dataclass(frozen=True, slots=True)
class BatchStream:
    """A schema and the batches that have it; can be iterated once."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    num_rows: int | None = None
    """How many rows there are, if that is known before they are read."""

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.batches


def batches_of(data: object, schema: pa.Schema | None = None) -> BatchStream:
    """Reads tabular data as batches; nothing is copied that is Arrow already.

    Args:
        data: see the module.
        schema: the schema wanted, if known. It decides the types of Python values (dicts), which
            have none of their own; other data keeps its own schema (see `aligned`).

    Raises:
        UsageError: the data is of no known kind, or an iterable without any item and no ``schema``.
    """
    if isinstance(data, BatchStream):
        return data
    if isinstance(data, pa.RecordBatch):
        return BatchStream(data.schema, iter([data]))
    if isinstance(data, pa.Table):
        return BatchStream(data.schema, iter(data.to_batches()))
    if isinstance(data, pa.RecordBatchReader):
        return BatchStream(data.schema, iter(data))
    if is_pandas(data):
        return _from_pandas(data, schema)
    if _is_dataset(data):
        scanner: ds.Scanner = data.scanner() if hasattr(data, "scanner") else data
        reader = scanner.to_reader()
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


def is_pandas(data: object) -> bool:
    """Whether data is a pandas data frame."""
    # By name: importing pandas to ask costs half a second and is an option of the caller's.
    return any(
        cls.__module__.partition(".")[0] == "pandas" and cls.__name__ == "DataFrame"
        for cls in type(data).__mro__
    )


def _is_dataset(data: object) -> bool:
    return any(
        cls.__module__ == "pyarrow._dataset" and cls.__name__ in {"Dataset", "Scanner"}
        for cls in type(data).__mro__
    )


def _imported(take: Callable[[object], pa.RecordBatchReader], data: object) -> pa.RecordBatchReader:
    """Imports through the C interface; data of single values instead of rows is refused."""
    try:
        return take(data)
    except (pa.ArrowInvalid, TypeError) as exc:
        raise UsageError(f"the Arrow data of {type(data).__name__} holds no rows: {exc}") from exc


def with_text_names(frame: pd.DataFrame) -> pd.DataFrame:
    """The data frame with its index as columns, if that has a name, and texts as names of columns."""
    if any(name is not None for name in frame.index.names):
        try:
            frame = frame.reset_index()
        except ValueError as exc:
            raise UsageError(f"the index of the data frame makes no columns: {exc}") from exc
    names = [str(name) for name in frame.columns]
    # A frame of numbers has numbers for names, and one of a pivot pairs.
    return frame if names == list(frame.columns) else frame.set_axis(names, axis="columns")


def without_columns(rows: int) -> BatchStream:
    """Rows of which nothing is said: each is all null in the table."""
    batch = pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    return BatchStream(batch.schema, iter([batch]))


def _from_pandas(frame: pd.DataFrame, target: pa.Schema | None) -> BatchStream:
    frame = with_text_names(frame)
    if not len(frame.columns):
        return without_columns(len(frame))
    fields = _by_name(target)
    # Columns of objects have no type but the table's or that of their values, read as those of dicts
    # are: pyarrow would guess one by the first values, and change the others to it.
    names = list(frame.columns)
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UsageError(f"the data has two columns named {repeated[0]!r}")
    objects = {
        name: fields.get(name.casefold())
        or pa.field(name, column_array(frame[name], None, name).type)
        for name, dtype in zip(names, frame.dtypes, strict=True)
        if str(dtype) == "object"
    }
    try:
        plain = pa.Schema.from_pandas(
            frame[[name for name in names if name not in objects]], preserve_index=False
        ).remove_metadata()
    except (pa.ArrowException, TypeError, ValueError) as exc:
        raise UsageError(f"a column of the data frame has no Arrow type: {exc}") from exc
    schema = pa.schema(
        [
            pa.field(name, objects[name].type) if name in objects else plain.field(name)
            for name in names
        ]
    )

    def slices() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(frame), PANDAS_SLICE_ROWS):
            part = frame.iloc[start : start + PANDAS_SLICE_ROWS]
            if objects:
                columns = [
                    column_array(part[name], objects[name], name)
                    if name in objects
                    else pa.array(part[name], plain.field(name).type, from_pandas=True)
                    for name in names
                ]
                table = _table(columns, names)
            else:
                table = pa.Table.from_pandas(part, schema=schema, preserve_index=False)
            # pandas' own Arrow columns are in chunks after a filter or a concatenation, each cut in
            # other places: copied together here, they do not make a batch of each few rows.
            yield from table.combine_chunks().to_batches()

    return BatchStream(schema, slices())


def _by_name(schema: pa.Schema | None) -> dict[str, pa.Field]:
    return {} if schema is None else {field.name.casefold(): field for field in schema}


def _table(columns: list[pa.Array], names: list[str]) -> pa.Table:
    try:
        return pa.table(columns, names=names)
    except (pa.ArrowException, ValueError, TypeError) as exc:
        raise UsageError(f"the columns do not make a table: {exc}") from exc


def _from_columns(columns: Mapping[str, object], schema: pa.Schema | None) -> BatchStream:
    fields = _by_name(schema)
    names = _names(columns)
    arrays = [
        column_array(values, fields.get(name.casefold()), name)
        for name, values in zip(names, columns.values(), strict=True)
    ]
    table = _table(arrays, names)
    return BatchStream(table.schema, iter(table.to_batches()))


def _names(names: Iterable[str]) -> list[str]:
    result = list(names)
    for name in result:
        if not isinstance(name, str):
            raise UsageError(f"the name of a column is a text, not a {type(name).__name__}")
    return result


def rows_as_columns(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    """Dicts with one row each as a dict of columns; a key that a row lacks is None there.

    Raises:
        UsageError: an item that is no dict, or a key that is no text.
    """
    for row in rows:
        if not isinstance(row, Mapping):
            raise UsageError(f"a {type(row).__name__} among the rows is no dict")
    names = _names(dict.fromkeys(itertools.chain.from_iterable(rows)))
    return {name: [row.get(name) for row in rows] for name in names}


def _from_rows(rows: Sequence[Mapping[str, object]], schema: pa.Schema | None) -> BatchStream:
    fields = _by_name(schema)
    columns = rows_as_columns(rows)
    arrays = [
        python_array(
            values, fields[name.casefold()].type if name.casefold() in fields else None, name
        )
        for name, values in columns.items()
    ]
    if not columns:
        return without_columns(len(rows))
    table = _table(arrays, list(columns))
    return BatchStream(table.schema, iter(table.to_batches()))


def _from_iterable(items: Iterable[object], schema: pa.Schema | None) -> BatchStream:
    iterator = iter(items)
    first = next(iterator, _NOTHING)
    if first is _NOTHING:
        if schema is None:
            raise UsageError("the data is an iterable without items and there is no schema for it")
        return BatchStream(schema, iter(()))
    if first is None or isinstance(first, str | bytes | int | float | tuple):
        raise UsageError(
            f"an iterable of {type(first).__name__} is not a table; give record batches, tables, "
            "data frames or dicts"
        )
    if isinstance(first, Mapping):
        # What comes behind is looked at when its turn comes.
        return _from_mappings(first, cast("Iterator[Mapping[str, object]]", iterator), schema)
    head = batches_of(first, schema)

    def chained() -> Iterator[pa.RecordBatch]:
        yield from head.batches
        for item in iterator:
            yield from batches_of(item, schema).batches

    return BatchStream(head.schema, chained())


MAPPINGS_AT_ONCE = 4096
"""Dicts of an iterable that become one batch, when each is a row."""


def _from_mappings(
    first: Mapping[str, object], rest: Iterator[Mapping[str, object]], schema: pa.Schema | None
) -> BatchStream:
    if are_columns(first, schema):
        head = _from_columns(first, schema)
        more = itertools.chain.from_iterable(
            (
                _from_columns(item, schema or head.schema)
                if isinstance(item, Mapping)
                else batches_of(item, schema or head.schema)
            ).batches
            for item in rest
        )
        return BatchStream(head.schema, itertools.chain(head.batches, more))
    rows = itertools.chain([first], rest)
    head = _from_rows(list(itertools.islice(rows, MAPPINGS_AT_ONCE)), schema)

    def chained() -> Iterator[pa.RecordBatch]:
        yield from head.batches
        while part := list(itertools.islice(rows, MAPPINGS_AT_ONCE)):
            yield from _from_rows(part, schema or head.schema).batches

    return BatchStream(head.schema, chained())


def are_columns(item: Mapping[str, object], schema: pa.Schema | None) -> bool:
    """Whether a dict among others is a dict of columns; else it is one row.

    Columns are lists or arrays. A list may also be the value of a list column in one row: then it
    nests no deeper than the column's type. One value that can only be a row's decides.
    """
    if not item or not all(_nesting(value) for value in item.values()):
        return False
    fields = _by_name(schema)
    return not all(
        isinstance(name, str)
        and name.casefold() in fields
        and _nesting(value) <= _type_nesting(fields[name.casefold()].type)
        for name, value in item.items()
    )


def _nesting(value: Any) -> int:
    """Levels of lists, as the first value that is there has them."""
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return 1 + _type_nesting(value.type)
    if hasattr(value, "__array__") and hasattr(value, "ndim"):
        if value.ndim == 1 and value.dtype == object:
            return 1 + _nesting(next((item for item in value if item is not None), None))
        return int(value.ndim)
    if isinstance(value, list):
        return 1 + _nesting(next((item for item in value if item is not None), None))
    return 0


def _type_nesting(data_type: pa.DataType) -> int:
    if isinstance(data_type, pa.BaseExtensionType):
        return _type_nesting(data_type.storage_type)
    if pa.types.is_map(data_type):
        return 1
    return 1 + _type_nesting(data_type.value_type) if hasattr(data_type, "value_field") else 0
