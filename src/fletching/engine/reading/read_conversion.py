"""Values in another Arrow type than the stored one: time units, and types that ODPS clients lack.

Whether a column needs it is decided once per read by `has_layout_of`: types that differ only in what
the schema says (an extension type and its storage, a zone, a list's field name, a time of day and
its count) are sent as stored.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError

__all__ = ["convert", "has_layout_of"]

_TYPES = pa.types


def has_layout_of(stored: Any, sent: Any) -> bool:
    """Whether buffers of ``stored`` are, bit for bit, the same values read as ``sent``."""
    if isinstance(stored, pa.BaseExtensionType):
        return stored == sent or has_layout_of(stored.storage_type, sent)
    if isinstance(sent, pa.BaseExtensionType):
        return has_layout_of(stored, sent.storage_type)
    if _TYPES.is_timestamp(stored) and _TYPES.is_timestamp(sent):
        return bool(stored.unit == sent.unit)
    if _TYPES.is_time32(stored):
        return bool(sent in (stored, pa.int32()))
    if _TYPES.is_time64(stored) or _TYPES.is_duration(stored):
        return bool(sent in (stored, pa.int64()))
    if stored.id != sent.id:
        return False
    if _TYPES.is_dictionary(stored):
        return bool(stored.index_type == sent.index_type) and has_layout_of(
            stored.value_type, sent.value_type
        )
    if not _TYPES.is_nested(stored):
        return bool(stored == sent)
    if _TYPES.is_fixed_size_list(stored) and stored.list_size != sent.list_size:
        return False
    if _TYPES.is_union(stored) and stored.type_codes != sent.type_codes:
        return False
    return bool(stored.num_fields == sent.num_fields) and all(
        has_layout_of(stored.field(i).type, sent.field(i).type) for i in range(stored.num_fields)
    )


def convert(array: Any, sent: Any, column: str) -> Any:
    """The array's values in another type.

    Units of time are cut towards zero when they become coarser. Copies what must change and shares
    the rest.

    Args:
        array: stored values.
        sent: the wanted type.
        column: its name, for the error.

    Raises:
        InvalidArgumentError: a value does not fit, e.g. a year that nanoseconds cannot count.
    """
    try:
        return _convert(array, sent)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidArgumentError(
            f"column {column!r} has values that do not fit {sent}, the type asked for; read it in"
            " its stored type or unit"
        ) from error


def _convert(array: Any, sent: Any) -> Any:
    stored = array.type
    if stored == sent:
        return array
    if isinstance(stored, pa.BaseExtensionType):
        return _convert(array.storage, sent)
    if _TYPES.is_dictionary(stored):
        return _convert(array.dictionary_decode(), sent)
    if _TYPES.is_run_end_encoded(stored):
        return _convert(pc.run_end_decode(array), sent)
    if _TYPES.is_struct(stored) and _TYPES.is_struct(sent):
        children = [_convert(array.field(i), sent.field(i).type) for i in range(sent.num_fields)]
        fields = [sent.field(i) for i in range(sent.num_fields)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=array.is_null())
    if _TYPES.is_map(stored) and _TYPES.is_map(sent):
        listed = _as_list(array)
        entries = listed.flatten()
        return pa.MapArray.from_arrays(
            _offsets(listed),
            _convert(entries.field(0), sent.key_type),
            _convert(entries.field(1), sent.item_type),
            type=sent,
            mask=_null_mask(array),
        )
    if _TYPES.is_list(sent) and hasattr(stored, "value_field"):
        # Any list layout: its elements in order, which shares them where they lie together.
        return pa.ListArray.from_arrays(
            _offsets(array),
            _convert(array.flatten(), sent.value_type),
            type=sent,
            mask=_null_mask(array),
        )
    return pc.cast(array, options=pc.CastOptions(sent, allow_time_truncate=True))


def _as_list(array: Any) -> Any:
    """A map as the list of its entries, which it is, by reference."""
    entries = pa.StructArray.from_arrays(
        [array.keys, array.items], fields=[array.type.key_field, array.type.item_field]
    )
    buffers = array.buffers()[:2]  # validity and offsets are the map's own
    return pa.Array.from_buffers(
        pa.list_(entries.type), len(array), buffers, array.null_count, array.offset, [entries]
    )


def _offsets(array: Any) -> Any:
    """Where each list's elements start in ``array.flatten()``, and where the last one's end."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64())
    starts = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
    return starts.cast(pa.int32())


def _null_mask(array: Any) -> Any:
    return array.is_null() if array.null_count else None
