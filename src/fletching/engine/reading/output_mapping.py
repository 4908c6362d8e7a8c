"""Rows of a stored batch as the reply's columns: select, convert, fill in."""

from __future__ import annotations

import pyarrow as pa

from fletching.engine.reading.physical_projection import PhysicalProjection
from fletching.errors import InvalidArgumentError, UsageError
from fletching.protocol.types.constant_columns import constant_column
from fletching.protocol.types.conversion import convert_for_reply

__all__ = ["OutputMapping", "stored_columns"]


class OutputMapping:
    """How stored batches of one segment become the reply's; shares every value that is not converted."""

    def __init__(
        self,
        projection: PhysicalProjection,
        schema_version: int,
        partition: tuple[str, ...],
        columns: tuple[int, ...],
    ) -> None:
        """Finds out what is to be done, which is the same for every batch.

        Args:
            projection: the reply's columns.
            schema_version: which of the table's schemas the segment has.
            partition: the values of its partition columns.
            columns: which of the segment's columns the batches have, in order.
        """
        self._projection = projection
        self._partition = partition
        stored = projection.stored(schema_version)
        position = {index: place for place, index in enumerate(columns)}
        self._places = [None if index is None else position[index] for index in stored.source]
        self._same = stored.same or (stored.selected and self._places == list(range(len(columns))))
        self._selected = stored.selected

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a stored batch as the reply wants them.

        Raises:
            InvalidArgumentError: a value does not fit the type asked for.
        """
        if self._same:
            return batch
        if self._selected:
            return batch.select(self._places)
        projection = self._projection
        count = len(projection.table.data)
        arrays: list[pa.Array] = []
        for output, place in zip(projection.outputs, self._places, strict=True):
            data_type = output.field.type
            if place is None:
                value = self._partition[output.place - count] if output.place >= count else None
                arrays.append(constant_column(data_type, value, batch.num_rows))
            else:
                arrays.append(_converted(batch.column(place), data_type, output.field.name))
        return pa.RecordBatch.from_arrays(arrays, schema=projection.schema)


def _converted(column: pa.Array, sent: pa.DataType, name: str) -> pa.Array:
    try:
        return convert_for_reply(column, sent, name)
    except UsageError as error:
        raise InvalidArgumentError(error.message) from error


def stored_columns(*projections: PhysicalProjection, schema_version: int) -> tuple[int, ...]:
    """The columns of segments of a schema version that any of the projections needs, in order."""
    sources = [projection.stored(schema_version).source for projection in projections]
    return tuple(sorted({index for source in sources for index in source if index is not None}))
