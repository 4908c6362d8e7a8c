"""What users give to the verbs that change a table, in the form that the service takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from fletching.client.tabular.python_values import python_array
from fletching.client.tabular.tabular_data import (
    BatchStream,
    batches_of,
    is_pandas,
    with_text_names,
)
from fletching.errors import UsageError
from fletching.protocol.messages.vocabulary import DELETE_CODE
from fletching.protocol.types.blob_type import storage_type

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["deleting", "one_row", "only_columns", "whole_rows"]


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
    """Tabular data whose rows have all columns of a table, in any order and case: the same, or its items.

    Rows that take the place of others would else take values away that nobody spoke of: also where only
    some of the rows lack a column, such as dicts with one row each. Items of an iterator are looked at
    when their turn comes.

    Raises:
        UsageError: the data lacks a column; also from the iterator.
    """
    known = [name.casefold() for name in schema.names]

    def check(given: Iterable[object]) -> None:
        names = [str(name) for name in given]
        there = {name.casefold() for name in names}
        missing = [
            name for name, folded in zip(schema.names, known, strict=True) if folded not in there
        ]
        if missing:
            advice = f"say which columns it is to replace, such as columns={names[-1:]}, or "
            raise UsageError(
                f"the data lacks column{'s' if len(missing) > 1 else ''} {', '.join(missing)}: an upsert "
                f"replaces whole rows; {advice if len(names) > 1 else ''}give null"
            )

    def checked(item: object) -> object:
        if isinstance(item, Mapping):
            check(item)
        elif is_pandas(item):
            check(with_text_names(cast("pd.DataFrame", item)[:0]).columns)
        elif isinstance(item, pa.RecordBatch | pa.Table | pa.RecordBatchReader | BatchStream):
            check(item.schema.names)
        elif isinstance(item, Iterable) and not hasattr(item, "__arrow_c_stream__"):
            return items_of(item)
        else:
            stream = batches_of(item)
            check(stream.schema.names)
            return stream
        return item

    def items_of(items: Iterable[object]) -> object:
        if isinstance(items, str | bytes | bytearray | memoryview):
            return items  # refused where it is read
        if not isinstance(items, Sequence):
            rest = iter(items)
            return itertools.chain(
                [checked(item) for item in itertools.islice(rest, 1)], map(checked, rest)
            )
        if not all(isinstance(item, Mapping) for item in items):
            return [checked(item) for item in items]
        for names in dict.fromkeys(map(tuple, items)):
            check(names)
        return items

    return checked(data)


def deleting(batches: Iterable[pa.RecordBatch], target: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Keys with the operation that takes their rows away."""
    for batch in batches:
        marks = pa.repeat(pa.scalar(DELETE_CODE, pa.int8()), batch.num_rows)
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
