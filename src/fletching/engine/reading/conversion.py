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
        dense = _rebased(array)
        return pa.MapArray.from_arrays(
            _offsets(dense, pa.int32()),
            _convert(dense.keys, sent.key_type),
            _convert(dense.items, sent.item_type),
            type=sent,
        )
    if _TYPES.is_list(sent) and hasattr(stored, "value_type") and _TYPES.is_nested(stored):
        return _convert_list(array, sent)
    return pc.cast(array, options=pc.CastOptions(sent, allow_time_truncate=True))


def _convert_list(array: Any, sent: Any) -> Any:
    """Any list layout to ``list``, its elements converted."""
    stored = array.type
    if not _TYPES.is_list(stored):
        # The plain list of the same elements, then those: one of the two casts copies offsets only.
        array = pc.cast(array, pa.list_(stored.value_field))
    dense = _rebased(array)
    return pa.ListArray.from_arrays(
        _offsets(dense, pa.int32()), _convert(dense.values, sent.value_type), type=sent
    )


def _rebased(array: Any) -> Any:
    """The array with offset 0, which building from offsets asks for; copies only a slice."""
    return array if array.offset == 0 else pa.concat_arrays([array])


def _offsets(array: Any, offset_type: Any) -> Any:
    """The offsets with a null where the list is null, as building from offsets wants it."""
    offsets = array.offsets.cast(offset_type)
    if array.null_count == 0:
        return offsets
    valid = pa.concat_arrays([array.is_valid(), pa.array([True])])
    return pc.if_else(valid, offsets, pa.scalar(None, offset_type))
