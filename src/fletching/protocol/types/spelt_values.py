"""What texts and numbers of JSON lines and CSV stand for, in the type of the column that they are for.

pyarrow's readers, given the type itself, drop the zone of a moment or make one up (JSON), make
infinities of numbers beyond a FLOAT, and read bytes, dates and times of day in JSON as no JSON has
them, or not at all. So they read these types as something wider, at every depth, and what it stands
for is found here: exactly that, or it is refused. A number is the nearest FLOAT, as it would be the
nearest DOUBLE.
"""

from __future__ import annotations

import base64

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["read_from_csv", "read_from_json", "stood_for"]

_types = pa.types


def read_from_csv(kind: pa.DataType) -> pa.DataType | None:
    """The type in which a field of CSV is read for a column; None if it has to be told."""
    kind = _plain(kind)
    if _types.is_float16(kind) or _types.is_float32(kind):
        return pa.float64()
    if _types.is_nested(kind) or _types.is_null(kind):
        return None
    if _types.is_duration(kind) or _types.is_interval(kind):
        return None
    return kind


def read_from_json(kind: pa.DataType) -> pa.DataType:
    """The type in which a value of JSON is read for a column, or for a part of one."""
    kind = _plain(kind)
    if _types.is_float16(kind) or _types.is_float32(kind):
        return pa.float64()
    if _is_bytes(kind) or _types.is_date(kind) or _types.is_timestamp(kind) or _types.is_time(kind):
        return pa.string()
    if _types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return pa.struct([pa.field(field.name, read_from_json(field.type)) for field in fields])
    if _is_list(kind):
        return pa.list_(read_from_json(kind.value_type))
    return kind


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values alone; how they are laid out is changed afterwards, freely."""
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if _types.is_dictionary(kind) or _types.is_run_end_encoded(kind):
        return _plain(kind.value_type)
    return {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        _types.is_binary(kind) or _types.is_large_binary(kind) or _types.is_fixed_size_binary(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return not _types.is_map(kind) and hasattr(kind, "value_field")


def stood_for(array: pa.Array, kind: pa.DataType, column: str) -> pa.Array:
    """What the values that were read stand for; those that are it already are returned as they are.

    Args:
        array: in the type that `read_from_csv` or `read_from_json` gives.
        kind: of the column.
        column: its path, for errors.

    Raises:
        pyarrow.ArrowInvalid: a value stands for none of the type.
    """
    kind = _plain(kind)
    if array.type == kind:
        return array
    if _types.is_float64(array.type):
        # Columns of types that CSV cannot have (durations) keep what was told: it is cast or refused.
        return _narrowed(array, kind, column)
    if _types.is_string(array.type):
        if not (_is_bytes(kind) or _types.is_temporal(kind)) or _types.is_duration(kind):
            return array
        if _is_bytes(kind):
            return _from_base64(array, kind, column)
        try:
            # Strict in both: a zone where the type has none, and none where it has one, are refused.
            return _times_of_day(array, kind) if _types.is_time(kind) else array.cast(kind)
        except pa.ArrowInvalid as error:
            raise pa.ArrowInvalid(f"column {column!r}: {error}") from error
    if array.offset and (_types.is_struct(array.type) or _is_list(array.type)):
        array = pa.concat_arrays([array])  # whole, as the arrays that are made of parts have to be
    if _types.is_struct(array.type) and _types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        children = [
            stood_for(array.field(number), field.type, f"{column}.{field.name}")
            for number, field in enumerate(fields)
        ]
        names = [field.name for field in fields]
        return pa.StructArray.from_arrays(children, names=names, mask=array.is_null())
    if _is_list(array.type) and _is_list(kind):
        values = stood_for(array.values, kind.value_type, f"{column}.element")
        return pa.ListArray.from_arrays(array.offsets, values, mask=array.is_null())
    return array


def _narrowed(array: pa.Array, kind: pa.DataType, column: str) -> pa.Array:
    if not (_types.is_float16(kind) or _types.is_float32(kind)):
        return array
    values = pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        made = values.astype(kind.to_pandas_dtype())
    beyond = np.isinf(made) & ~np.isinf(values)
    if beyond.any():
        raise pa.ArrowInvalid(f"column {column!r}: {float(values[beyond][0])!r} is beyond {kind}")
    mask = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    return pa.array(made, kind, mask=mask)


def _times_of_day(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Texts as times, which pyarrow has for moments only: those of the first day."""
    moments = pc.binary_join_element_wise("1970-01-01", array, "T").cast(pa.timestamp(kind.unit))
    counts = moments.view(pa.int64())
    return (counts.cast(pa.int32()) if _types.is_time32(kind) else counts).view(kind)


def _from_base64(array: pa.Array, kind: pa.DataType, column: str) -> pa.Array:
    try:
        decoded = [
            None if text is None else base64.b64decode(text, validate=True)
            for text in array.to_pylist()
        ]
    except ValueError as error:
        raise pa.ArrowInvalid(f"column {column!r} is not base64: {error}") from error
    return pa.array(decoded, kind)
