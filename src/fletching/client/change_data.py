"""What users give to the verbs that change a table, in the form that the service takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from fletching.client.tabular.tabular_data import BatchStream, batches_of
from fletching.errors import UsageError
from fletching.protocol.types.blob_type import storage_type
from fletching.protocol.types.conversion import convert

__all__ = ["deleting", "one_row", "only_columns"]

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
    places = [by_name[name.casefold()] for name in schema.names]
    chosen = pa.schema([stream.schema.field(place) for place in places])
    return BatchStream(chosen, (batch.select(places) for batch in stream.batches))


def deleting(batches: Iterable[pa.RecordBatch], target: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Keys with the operation that takes their rows away."""
    for batch in batches:
        marks = pa.repeat(pa.scalar(_DELETE, pa.int8()), batch.num_rows)
        yield pa.RecordBatch.from_arrays([*batch.columns, marks], schema=target)


def one_row(values: Mapping[str, object], schema: pa.Schema) -> bytes:
    """Plain values as an Arrow stream of one row, in the table's types where it has the columns.

    Raises:
        UsageError: a value does not fit its column.
    """
    by_name = {field.name.casefold(): field for field in schema}
    fields = []
    for name, value in values.items():
        field = by_name.get(name.casefold())
        data_type = None if field is None else storage_type(field.type)
        if isinstance(data_type, pa.BaseExtensionType):
            data_type = data_type.storage_type
        try:
            if isinstance(value, pa.Scalar):
                array = _repeated(value)
                array = array if data_type is None else convert(array, data_type, name)
            else:
                array = pa.array([_without_scalars(value)], data_type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"the value of column {name} does not fit: {error}") from error
        fields.append((name, array))
    batch = pa.RecordBatch.from_arrays(
        [array for _, array in fields], names=[name for name, _ in fields]
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _repeated(scalar: pa.Scalar) -> pa.Array:
    """An array of one value. pyarrow, asked for one of a dictionary's type, takes no other and crashes."""
    while isinstance(scalar, pa.DictionaryScalar | pa.RunEndEncodedScalar | pa.ExtensionScalar):
        scalar = scalar.value
    return pa.nulls(1) if scalar is None else pa.repeat(scalar, 1)


def _without_scalars(value: object) -> object:
    """A plain value in which no part is one of pyarrow's own."""
    match value:
        case pa.Scalar():
            return value.as_py()
        case list() | tuple():
            return (
                type(value)(map(_without_scalars, value)) if type(value) in {list, tuple} else value
            )
        case dict():
            return {key: _without_scalars(each) for key, each in value.items()}
        case _:
            return value
