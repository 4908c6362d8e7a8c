"""What users give to the verbs that change a table, in the form that the service takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from fletching.client.tabular.python_values import python_array
from fletching.client.tabular.tabular_data import BatchStream, batches_of
from fletching.errors import UsageError
from fletching.protocol.types.blob_type import contains_blob, storage_type

__all__ = ["deleting", "one_row", "only_columns", "whole_rows"]

_DELETE = 68  # "D", in the system column of keyed writes


def only_columns(data: object, schema: pa.Schema) -> BatchStream:
    """Some columns of tabular data, by their names in any case.

    Raises:
        UsageError: the data lacks one.
    """
    stream = batches_of(data, None)
    by_name = {name.casefold(): number for number, name in enumerate(stream.schema.names)}
    missing = [name for name in schema.names if name.casefold() not in by_name]
    if missing:
        raise UsageError(f"the data lacks column {', '.join(missing)}")
    indices = [by_name[name.casefold()] for name in schema.names]
    chosen = pa.schema([stream.schema.field(index) for index in indices])
    return BatchStream(chosen, (batch.select(indices) for batch in stream.batches))


def whole_rows(data: object, schema: pa.Schema) -> object:
    """Tabular data that has all columns of a table, in any order and case: the same data, or its batches.

    Rows that take the place of others would else take values away that nobody spoke of.

    Raises:
        UsageError: the data lacks a column.
    """
    if isinstance(data, Mapping):
        given = [str(name) for name in data]
    elif isinstance(getattr(data, "schema", None), pa.Schema):
        given = data.schema.names  # type: ignore[attr-defined]  # has been looked at
    elif any(map(contains_blob, schema.types)):
        return data  # contents of blobs are uploaded before there are batches
    else:
        data = batches_of(data, schema)
        given = data.schema.names
    known = {name.casefold() for name in given}
    missing = [name for name in schema.names if name.casefold() not in known]
    if missing:
        raise UsageError(
            f"the data lacks column {', '.join(missing)}: an upsert replaces whole rows; say which "
            f"columns it is to replace, such as columns={given[-1:]}, or give null"
        )
    return data


def deleting(batches: Iterable[pa.RecordBatch], target: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Keys with the operation that takes their rows away."""
    for batch in batches:
        marks = pa.repeat(pa.scalar(_DELETE, pa.int8()), batch.num_rows)
        yield pa.RecordBatch.from_arrays([*batch.columns, marks], schema=target)


def one_row(values: Mapping[str, object], schema: pa.Schema) -> bytes:
    """Plain values as an Arrow stream of one row, in the table's types where it has the columns.

    Raises:
        UsageError: a column's type does not have the value: the rule is that of appended rows.
    """
    by_name = {field.name.casefold(): field for field in schema}
    fields = []
    for name, value in values.items():
        if not isinstance(name, str):
            raise UsageError(f"the name of a column is a text, not a {type(name).__name__}")
        field = by_name.get(name.casefold())
        data_type = None if field is None else storage_type(field.type)
        if isinstance(data_type, pa.BaseExtensionType):
            data_type = data_type.storage_type
        fields.append((name, python_array([value], data_type, name)))
    try:
        batch = pa.RecordBatch.from_arrays(
            [array for _, array in fields], names=[name for name, _ in fields]
        )
    except UnicodeEncodeError as error:
        raise UsageError(
            f"a column's name has half of a character: {error.object[:60]!a}"
        ) from None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
