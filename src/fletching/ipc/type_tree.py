"""Arrow types as trees: changing the types below a nested type while its layout stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pyarrow as pa

from fletching.errors import UsageError

__all__ = ["any_below", "check_writable", "is_flat", "with_children"]

_FLAT: Final = frozenset(
    data_type.id
    for data_type in (
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.null()),
        *(pa.date32(), pa.date64(), pa.time32("s"), pa.time64("us")),
        *(pa.timestamp("us"), pa.duration("us"), pa.month_day_nano_interval()),
        *(pa.decimal128(1), pa.decimal256(1)),
        # From pyarrow 19 on, and 18 is the oldest that is supported.
        *(getattr(pa, name)(1) for name in ("decimal32", "decimal64") if hasattr(pa, name)),
        *(pa.string(), pa.binary(), pa.large_string(), pa.large_binary(), pa.binary(1)),
        *(pa.string_view(), pa.binary_view()),
    )
)


def is_flat(data_type: pa.DataType) -> bool:
    """Whether nothing stands below a type, nor a storage type behind it.

    Most columns are such, and a table may have thousands: to know this at once spares looking.
    """
    return data_type.id in _FLAT


def any_below(data_type: pa.DataType, test: Callable[[pa.DataType], bool]) -> bool:
    """Whether the type or one below it passes a test; looks into storage and dictionary values."""
    if data_type.id in _FLAT:
        return test(data_type)
    if isinstance(data_type, pa.BaseExtensionType):
        return any_below(data_type.storage_type, test)
    if test(data_type):
        return True
    if pa.types.is_dictionary(data_type):
        return any_below(data_type.value_type, test)
    return any(
        any_below(data_type.field(index).type, test) for index in range(data_type.num_fields)
    )


def with_children(
    data_type: pa.DataType, change: Callable[[pa.DataType], pa.DataType]
) -> pa.DataType:
    """The same type over children that were changed; a type without children is returned as it is.

    Raises:
        UsageError: a nested type that is not known here.
    """
    if not data_type.num_fields:
        return data_type
    types = pa.types
    fields = [
        data_type.field(index).with_type(change(data_type.field(index).type))
        for index in range(data_type.num_fields)
    ]
    if types.is_struct(data_type):
        return pa.struct(fields)
    if types.is_list(data_type):
        return pa.list_(fields[0])
    if types.is_large_list(data_type):
        return pa.large_list(fields[0])
    if types.is_list_view(data_type):
        return pa.list_view(fields[0])
    if types.is_large_list_view(data_type):
        return pa.large_list_view(fields[0])
    if types.is_fixed_size_list(data_type):
        return pa.list_(fields[0], data_type.list_size)
    if types.is_map(data_type):
        entries = fields[0].type
        return pa.map_(entries.field(0), entries.field(1), keys_sorted=data_type.keys_sorted)
    if types.is_union(data_type):
        return pa.union(fields, mode=data_type.mode, type_codes=data_type.type_codes)
    if types.is_run_end_encoded(data_type):
        return pa.run_end_encoded(data_type.run_end_type, fields[1].type)
    raise UsageError(f"{data_type} is a nested type that is not known here")


def check_writable(schema: pa.Schema) -> None:
    """Refuses types that Arrow's format has no place for: what is written could not be read.

    A field says once that it is a dictionary, and of which type: values that are dictionaries
    themselves, or of an extension type, would need a field of their own.

    Raises:
        UsageError: such a type.
    """
    for index, data_type in enumerate(schema.types):
        if not is_flat(data_type) and any_below(data_type, _has_unwritable_values):
            raise UsageError(
                f"column {schema.field(index).name!r} cannot be written: the values of a dictionary"
                f" cannot be dictionaries or of an extension type, this one is {data_type}"
            )


def _has_unwritable_values(data_type: pa.DataType) -> bool:
    if not pa.types.is_dictionary(data_type):
        return False
    values = data_type.value_type
    return isinstance(values, pa.BaseExtensionType) or pa.types.is_dictionary(values)
