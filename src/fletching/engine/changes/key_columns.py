"""The key columns of a table, in segments of any of its schemas."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection

from fletching.catalog.segment_rows import SegmentRow
from fletching.catalog.table_rows import TableRow, schema_history
from fletching.engine.changes.key_values import is_exact
from fletching.engine.changes.row_reading import rows_of_segment
from fletching.objects.store import ObjectStore

__all__ = ["KeyColumns"]


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
        self._places = {
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
        places = self._places[version]
        batch = rows_of_segment(self.store, segment, self._schemas[version], places, rows)
        found = []
        for column, data_type in zip(batch.columns, self.types, strict=True):
            plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            wanted = data_type.value_type if pa.types.is_dictionary(data_type) else data_type
            found.append(plain if plain.type == wanted else plain.cast(wanted))
        return found
