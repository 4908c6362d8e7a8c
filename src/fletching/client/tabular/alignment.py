"""Batches in exactly the schema that the service stores, so that it stores them as they are sent.

Columns are found by name in any case, reordered, converted where no value changes
(`fletching.protocol.types.conversion`), and missing nullable columns are null.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import pyarrow as pa

from fletching.client.tabular.tabular_data import BatchStream
from fletching.errors import UsageError
from fletching.ipc.batch_sizes import bytes_of
from fletching.ipc.constant_arrays import null_array
from fletching.protocol.types.constant_columns import scalar_of_text
from fletching.protocol.types.conversion import column_plan, convert
from fletching.protocol.types.required_values import RequiredValues

__all__ = [
    "align_batch",
    "aligned",
    "empty_batch",
    "joined",
    "resized",
    "size_of",
    "with_constants",
]

MAX_CONVERTED_BYTES = 1 << 30
"""Bytes of a batch that are converted at once. Texts of 64-bit offsets then fit 32-bit ones."""


def aligned(stream: BatchStream, target: pa.Schema, *, fixed: Collection[str] = ()) -> BatchStream:
    """The stream with every batch in exactly the target's schema (see `align_batch`).

    Batches that need conversion and are larger than `MAX_CONVERTED_BYTES` are cut into slices.

    Args:
        stream: the rows.
        target: the schema.
        fixed: as `fletching.protocol.types.conversion.column_plan` takes it.

    Raises:
        UsageError: from the iterator, or at once if the stream's own schema cannot fit.
    """
    if not stream.schema.equals(target):
        _plan(stream.schema, target, fixed)
    # Whether documents are JSON takes long to say, and the service says it before anything is stored.
    required = RequiredValues(target, documents=False)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in stream.batches:
            parts = [batch] if batch.schema.equals(target) else _halved(batch, MAX_CONVERTED_BYTES)
            for part in parts:
                yield align_batch(part, target, required)

    return BatchStream(target, batches())


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """A batch of the schema with no rows."""
    return pa.RecordBatch.from_arrays(
        [null_array(field.type, 0) for field in schema], schema=schema
    )


def joined(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Batches as a table, each of whose columns has a chunk, also where there is no batch.

    pyarrow ends the process where some columns without a chunk are converted, and its own
    ``empty_table`` knows fewer types.
    """
    return pa.Table.from_batches(list(batches) or [empty_batch(schema)], schema)


def _plan(source: pa.Schema, target: pa.Schema, fixed: Collection[str]) -> tuple[int | None, ...]:
    """Which column fills which; also whether the types fit, before there is a value."""
    plan = column_plan(list(source), list(target), what="column", fixed=fixed)
    for number, field in zip(plan, target, strict=True):
        if number is not None:
            convert(null_array(source.field(number).type, 0), field.type, field.name)
    return plan


def align_batch(
    batch: pa.RecordBatch, target: pa.Schema, required: RequiredValues | None = None
) -> pa.RecordBatch:
    """The batch in exactly the target's schema; the batch itself if it has it already.

    Only columns whose type differs are copied.

    Args:
        batch: what is given.
        target: the schema.
        required: the target's, where it is known already.

    Raises:
        UsageError: a column that the target lacks, a missing or null value where the target allows
            none at any depth, two columns of one name, or a value that the target's type lacks.
    """
    if required is None:
        required = RequiredValues(target, documents=False)
    if batch.schema.equals(target):
        required.check(batch.column)
        return batch
    plan = column_plan(list(batch.schema), list(target), what="column")
    arrays = [
        null_array(field.type, batch.num_rows)
        if number is None
        else convert(batch.column(number), field.type, field.name)
        for number, field in zip(plan, target, strict=True)
    ]
    required.check(arrays.__getitem__)
    # The row count stands by itself for a table without columns.
    return pa.RecordBatch.from_arrays(arrays, schema=target)


def with_constants(
    stream: BatchStream, values: Iterable[tuple[str, str]], target: pa.Schema
) -> BatchStream:
    """The stream with columns of one value appended, where it lacks them.

    Args:
        stream: the rows.
        values: name and text of each column.
        target: the schema that the columns are for; they get its types.

    Raises:
        UsageError: a text is no value of its column's type.
    """
    names = {name.casefold() for name in stream.schema.names}
    fields = {field.name.casefold(): field for field in target}
    missing = []
    for name, text in values:
        if name.casefold() not in names:
            data_type = fields[name.casefold()].type if name.casefold() in fields else pa.string()
            try:
                missing.append((name, scalar_of_text(text, data_type)))
            except pa.ArrowException as exc:
                raise UsageError(
                    f"{text!r} is no {data_type}, the type of column {name!r}"
                ) from exc

    def widened(batch: pa.RecordBatch) -> pa.RecordBatch:
        for name, value in missing:
            batch = batch.append_column(name, pa.repeat(value, batch.num_rows))
        return batch

    schema = pa.schema([*stream.schema, *((name, value.type) for name, value in missing)])
    return BatchStream(schema, (widened(batch) for batch in stream.batches))


_SMALL_BYTES = 1 << 20
_MANY_COLUMNS = 64


def size_of(batch: pa.RecordBatch) -> int:
    """The bytes of a batch's rows; of a small one of many columns the bytes of its buffers.

    Which part of its buffers a batch uses is looked at column by column, for thousands of columns longer
    than sending a row of them takes.
    """
    if batch.num_columns >= _MANY_COLUMNS:
        total: int = batch.get_total_buffer_size()
        if total <= _SMALL_BYTES:
            return total
    return bytes_of(batch)


def _halved(batch: pa.RecordBatch, limit_bytes: int) -> Iterator[pa.RecordBatch]:
    """Slices of a batch of at most so many bytes, whatever the lengths of its rows; a row is never cut."""
    if batch.num_rows <= 1 or bytes_of(batch) <= limit_bytes:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _halved(batch.slice(0, half), limit_bytes)
    yield from _halved(batch.slice(half), limit_bytes)


def resized(batches: Iterable[pa.RecordBatch], limit_bytes: int) -> Iterator[pa.RecordBatch]:
    """The same rows with no batch much above a size, cut into row slices without copying.

    Rows are taken to be of about equal length; a single row is never cut. Empty batches are left
    out: they hold nothing and cost a message each.
    """
    for batch in batches:
        if batch.num_rows == 0:
            continue
        parts = 1 if batch.num_rows == 1 else -(-size_of(batch) // limit_bytes)
        rows = max(1, -(-batch.num_rows // max(1, parts)))
        if rows >= batch.num_rows:
            yield batch
            continue
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)
