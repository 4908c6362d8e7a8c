"""Rows in the layouts that every library knows, with the same values."""

from __future__ import annotations

import pyarrow as pa

from fletching.client.tabular.alignment import align_batch, joined

__all__ = ["plain_layouts"]


def plain_layouts(table: pa.Table, *, text_views: bool = False) -> pa.Table:
    """The same values without views and run-end encoding, also inside nested columns.

    For libraries that have no operations on those. A batch of more than 2 GiB of text is refused.

    Args:
        table: the rows.
        text_views: leaves columns of texts and binaries that are views as they are.
    """
    kept = (pa.string_view(), pa.binary_view()) if text_views else ()
    schema = pa.schema(
        [
            field if field.type in kept else field.with_type(_plain(field.type))
            for field in table.schema
        ],
        table.schema.metadata,
    )
    if schema.equals(table.schema):
        return table
    return joined((align_batch(batch, schema) for batch in table.to_batches()), schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    types = pa.types

    def inside(field: pa.Field) -> pa.Field:
        return field.with_type(_plain(field.type))

    if types.is_string_view(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.binary()
    if types.is_run_end_encoded(kind):
        return _plain(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([inside(each) for each in kind])
    if types.is_map(kind):
        return pa.map_(inside(kind.key_field), inside(kind.item_field), kind.keys_sorted)
    if types.is_fixed_size_list(kind):
        return pa.list_(inside(kind.value_field), kind.list_size)
    if types.is_list(kind) or types.is_list_view(kind):
        return pa.list_(inside(kind.value_field))
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(inside(kind.value_field))
    return kind
