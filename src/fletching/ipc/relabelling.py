"""An array's buffers under another type of the same layout.

``Array.view`` does this for flat types alone: beside a child without buffers of its own (null,
run-end encoded) it gives the children that follow a wrong length.
"""

from __future__ import annotations

import pyarrow as pa

__all__ = ["relabelled", "relabelled_batch"]


class _Relabelled:
    """Exports an array or batch with another schema, for Arrow's C data interface."""

    def __init__(
        self, array: pa.Array | pa.RecordBatch, data_type: pa.DataType | pa.Schema
    ) -> None:
        self._array, self._data_type = array, data_type

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return self._data_type.__arrow_c_schema__(), self._array.__arrow_c_array__()[1]


def relabelled(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    """The same buffers as another type. Copies nothing, looks at no value.

    The caller vouches for the layout: as many children and buffers, of the same widths.
    """
    if array.type.equals(data_type, check_metadata=True):
        return array
    return pa.array(_Relabelled(array, data_type))


def relabelled_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The same for all columns of a batch at once: their buffers under another schema."""
    return pa.record_batch(_Relabelled(batch, schema))
