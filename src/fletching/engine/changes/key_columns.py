"""The key columns of rows by their numbers, in segments of any schema that the table had."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection

from fletching.catalog.segment_rows import SegmentRow
from fletching.catalog.table_rows import TableRow, schema_history
from fletching.engine.changes.key_values import is_exact
from fletching.engine.reading.physical_projection import SegmentColumns
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.errors import CorruptObjectError
from fletching.objects.store import ObjectStore
from fletching.protocol.types.row_selection import plain_values

__all__ = ["KeyColumns", "rows_of_segment"]


class KeyColumns:
    """Reads the key columns of rows of a table's segments, whatever schema version they have.

    Attributes:
        store: where the segments are.
        types: of the key columns.
        exact: whether the key's numbers are its values.
    """

    def __init__(self, store: ObjectStore, connection: Connection, table: TableRow) -> None:
        """Looks up where the key is in each of the table's schemas."""
        self.store = store
        history = schema_history(connection, table.id)
        schemas = {
            version: pa.ipc.read_schema(pa.py_buffer(row.arrow_schema))
            for version, row in history.items()
        }
        current = history[table.schema_version]
        names = [name.casefold() for name in table.primary_key]
        at = {name.casefold(): n for n, name in enumerate(schemas[table.schema_version].names)}
        ids = [current.column_ids[at[name]][0] for name in names]
        self.types = [schemas[table.schema_version].field(at[name]).type for name in names]
        self._schemas = schemas
        self._indices = {
            version: [
                [each[0] for each in row.column_ids[: len(schemas[version])]].index(number)
                for number in ids
            ]
            for version, row in history.items()
        }
        self.exact = is_exact(self.types)

    def columns(self, segment: SegmentRow, rows: NDArray[np.generic]) -> list[pa.Array]:
        """The key columns of some rows of a segment, in the order asked for.

        Raises:
            CorruptObjectError: the segment is damaged.
        """
        version = segment.schema_version
        indices = self._indices[version]
        batch = rows_of_segment(self.store, segment, self._schemas[version], indices, rows)
        result = []
        for column, data_type in zip(batch.columns, self.types, strict=True):
            plain = plain_values(column)
            wanted = data_type.value_type if pa.types.is_dictionary(data_type) else data_type
            result.append(plain if plain.type == wanted else plain.cast(wanted))
        return result


def rows_of_segment(
    store: ObjectStore,
    segment: SegmentRow,
    schema: pa.Schema,
    columns: Sequence[int],
    rows: NDArray[np.generic],
) -> pa.RecordBatch:
    """Some columns of some rows, in the order asked for; only the batches that have them are decoded.

    Args:
        store: where the segment is.
        segment: the segment.
        schema: its columns.
        columns: which of them, in the order wanted.
        rows: row numbers in the segment, in any order, also repeated.

    Raises:
        CorruptObjectError: what is stored is damaged, or has no such row.
    """
    index = np.frombuffer(segment.batch_index, "<i8").reshape(-1, 4)
    starts = np.zeros(len(index) + 1, dtype=np.int64)
    np.cumsum(index[:, 3], out=starts[1:])
    wanted, inverse = np.unique(rows.astype(np.int64), return_inverse=True)
    if len(wanted) and int(wanted[-1]) >= int(starts[-1]):
        raise CorruptObjectError("a segment has fewer rows than its key run says", key=segment.key)
    stored = SegmentColumns(
        schema,
        tuple(range(len(schema))),
        whole=True,
        converts=False,
        appendable=True,
        same=True,
        selected=True,
    )
    reader = SegmentReader(store, segment, stored)
    needed = tuple(sorted(set(columns)))
    batches = []
    owners = np.searchsorted(starts, wanted, side="right") - 1
    for owner in np.unique(owners).tolist():
        offset, metadata_length, body_length, _ = (int(each) for each in index[owner])
        decoded = reader.decode(offset, offset + metadata_length + body_length, needed)
        mine = wanted[owners == owner] - starts[owner]
        batches.append(decoded.take(pa.array(mine)))
    if not batches:
        empty = pa.schema([schema.field(position) for position in columns])
        return pa.RecordBatch.from_arrays(
            [pa.array([], field.type) for field in empty], schema=empty
        )
    table = pa.Table.from_batches(batches).combine_chunks()
    order = pa.array(inverse.reshape(-1))
    result = table.take(order).select([needed.index(position) for position in columns])
    (batch,) = result.combine_chunks().to_batches() or [None]
    assert batch is not None
    return batch
