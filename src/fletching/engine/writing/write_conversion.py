"""Batches that are not as the table stores them, but can be made so without guessing.

What is converted: the order of columns, missing nullable columns (as null), encodings and offset
widths (dictionary, run-end, large and view types), wider integers, floats and decimals, units of
time where no value changes, fixed-size and other lists, extension types by their storage. What is
not: text from or to numbers, floats to a narrower type, time zones made up or dropped.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError

__all__ = ["convert_array", "convertible", "same_layout"]

_types = pa.types
_LIST_KINDS = (
    _types.is_list,
    _types.is_large_list,
    _types.is_fixed_size_list,
    _types.is_list_view,
    _types.is_large_list_view,
)
_TEXTS = {pa.string(), pa.large_string(), pa.string_view()}
_BINARIES = {pa.binary(), pa.large_binary(), pa.binary_view()}


def _storage(data_type: Any) -> Any:
    while isinstance(data_type, pa.BaseExtensionType):
        data_type = data_type.storage_type
    return data_type


def _children(data_type: Any) -> list[Any]:
    return [data_type.field(number) for number in range(data_type.num_fields)]


def same_layout(source: Any, target: Any) -> bool:
    """Whether batches of one type can be stored as the other without touching a byte.

    Names of struct fields count, but not their case; names that only the format needs (a list's
    ``item``), nullability, metadata and extension types (which are their storage) do not.
    """
    source, target = _storage(source), _storage(target)
    if source.id != target.id:
        return False
    if _types.is_dictionary(source):
        return source.index_type == target.index_type and same_layout(
            source.value_type, target.value_type
        )
    if not source.num_fields:
        return bool(source == target)
    if _types.is_fixed_size_list(source) and source.list_size != target.list_size:
        return False
    if _types.is_union(source) and source.type_codes != target.type_codes:
        return False
    pairs = list(zip(_children(source), _children(target), strict=False))
    if len(pairs) != source.num_fields or source.num_fields != target.num_fields:
        return False
    named = _types.is_struct(source) or _types.is_union(source)
    return all(
        (not named or a.name.casefold() == b.name.casefold()) and same_layout(a.type, b.type)
        for a, b in pairs
    )


def _is_list(data_type: Any) -> bool:
    return any(kind(data_type) for kind in _LIST_KINDS)


def convertible(source: Any, target: Any) -> bool:
    """Whether `convert_array` knows a way; single values may still be refused."""
    source, target = _storage(source), _storage(target)
    if same_layout(source, target) or _types.is_null(source):
        return True
    if _types.is_dictionary(source) or _types.is_run_end_encoded(source):
        return convertible(source.value_type, target)
    if _types.is_dictionary(target):
        return convertible(source, target.value_type)
    if _types.is_run_end_encoded(target):
        return convertible(source, target.value_type)
    if source in _TEXTS:
        return target in _TEXTS or target in _BINARIES
    if source in _BINARIES:
        return target in _BINARIES
    if _types.is_fixed_size_binary(source):
        return target in _BINARIES
    if _is_list(source) and _is_list(target):
        return convertible(source.value_type, target.value_type)
    if _types.is_map(source) and _types.is_map(target):
        return convertible(source.key_type, target.key_type) and convertible(
            source.item_type, target.item_type
        )
    if _types.is_struct(source) and _types.is_struct(target):
        return _struct_plan(source, target) is not None
    return _scalar_convertible(source, target)


def _scalar_convertible(source: Any, target: Any) -> bool:
    if _types.is_integer(source):
        return bool(
            _types.is_integer(target) or _types.is_floating(target) or _types.is_decimal(target)
        )
    if _types.is_floating(source):
        return bool(_types.is_floating(target) and target.bit_width >= source.bit_width)
    if _types.is_decimal(source):
        return bool(_types.is_decimal(target))
    if _types.is_timestamp(source):
        return bool(_types.is_timestamp(target) and (source.tz is None) == (target.tz is None))
    for kind in (_types.is_date, _types.is_time, _types.is_duration):
        if kind(source):
            return bool(kind(target))
    return False


def _struct_plan(source: Any, target: Any) -> list[int | None] | None:
    """Per target field the source field that fills it, None for null; None if it cannot be done."""
    numbers = {field.name.casefold(): i for i, field in enumerate(_children(source))}
    if len(numbers) != source.num_fields:
        return None
    plan: list[int | None] = []
    for field in _children(target):
        number = numbers.pop(field.name.casefold(), None)
        if number is None and not field.nullable:
            return None
        if number is not None and not convertible(source.field(number).type, field.type):
            return None
        plan.append(number)
    return None if numbers else plan


def convert_array(array: Any, target: Any, name: str) -> Any:
    """The same values in the table's type. Copies what it has to change.

    Raises:
        InvalidArgumentError: a value does not fit the type (out of range, would lose digits).
    """
    try:
        return _convert(array, target)
    except (pa.ArrowException, ValueError, TypeError, NotImplementedError) as error:
        raise InvalidArgumentError(
            f"column {name}: {array.type} cannot be stored as {target}: {error}"
        ) from error


def _convert(array: Any, target: Any) -> Any:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(target, pa.BaseExtensionType):
        return target.wrap_array(_convert(array, target.storage_type))
    source = array.type
    if source == target:
        return array
    if _types.is_null(source):
        return pa.nulls(len(array), target)
    if _types.is_dictionary(source) and not _types.is_dictionary(target):
        return _convert(array.dictionary_decode(), target)
    if _types.is_dictionary(source):
        array = array.dictionary_decode()
    if _types.is_run_end_encoded(source):
        return _convert(pc.run_end_decode(array), target)
    if _types.is_dictionary(target):
        values = _convert(array, target.value_type)
        return values.dictionary_encode().cast(target)
    if _types.is_run_end_encoded(target):
        return pc.run_end_encode(_convert(array, target.value_type), target.run_end_type)
    if _types.is_struct(source) and _types.is_struct(target):
        return _convert_struct(array, target)
    if _is_list(source) and _is_list(target):
        return _convert_list(array, target)
    if _types.is_map(source) and _types.is_map(target):
        return pa.MapArray.from_arrays(
            _rebased_offsets(array),
            _convert(_entries(array, "keys"), target.key_type),
            _convert(_entries(array, "items"), target.item_type),
            type=target,
            mask=_null_mask(array),
        )
    if _types.is_integer(source) and _types.is_decimal(target):
        # Arrow wants room for every value of the integer type; what counts is these values' room.
        array = array.cast(pa.decimal256(76, target.scale), safe=True)
    return array.cast(target, safe=True)


def _null_mask(array: Any) -> Any:
    return array.is_null() if array.null_count else None


def _rebased_offsets(array: Any) -> Any:
    offsets = array.offsets
    return pc.subtract(offsets, offsets[0])


def _entries(array: Any, part: str) -> Any:
    """The keys or items that the map's rows span, whatever slice of a larger array it is."""
    offsets = array.offsets
    first, last = offsets[0].as_py(), offsets[-1].as_py()
    return getattr(array, part).slice(first, last - first)


def _convert_struct(array: Any, target: Any) -> Any:
    plan = _struct_plan(array.type, target)
    if plan is None:
        raise TypeError("the structs' fields do not match")
    fields = _children(target)
    children = [
        pa.nulls(len(array), field.type)
        if number is None
        else _convert(array.field(number), field.type)
        for number, field in zip(plan, fields, strict=True)
    ]
    return pa.StructArray.from_arrays(children, fields=fields, mask=_null_mask(array))


def _convert_list(array: Any, target: Any) -> Any:
    source = array.type
    # Casts between kinds of lists are Arrow's; those of values need the values in hand.
    if not _types.is_list(source) and not _types.is_large_list(source):
        kind = pa.list_(source.value_field)
        array = array.cast(kind)
        source = kind
    offsets = array.offsets
    first, last = offsets[0].as_py(), offsets[-1].as_py()
    values = _convert(array.values.slice(first, last - first), target.value_type)
    rebased = pc.subtract(offsets, offsets[0])
    mask = _null_mask(array)
    large = _types.is_large_list(source)
    built = (pa.LargeListArray if large else pa.ListArray).from_arrays(
        rebased,
        values,
        type=(pa.large_list if large else pa.list_)(target.value_field),
        mask=mask,
    )
    return built if built.type == target else built.cast(target)
