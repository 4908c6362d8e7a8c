"""What texts and numbers of JSON lines and CSV stand for, in the type of the column that they are for.

pyarrow's readers, given the type itself, drop the zone of a moment or make one up (JSON), make
infinities of numbers beyond a FLOAT or a DOUBLE, and read bytes, dates and times of day in JSON as no
JSON has them, or not at all. So they read these types as something wider, at every depth, and what it
stands for is found here: exactly that, or it is refused. A number is the nearest FLOAT or DOUBLE, but
infinity is not near to any number, and zero to no other one. Whole numbers are written in decimal
digits: pyarrow also takes hexadecimal ones, and makes -1 of those of 255.
"""

from __future__ import annotations

import base64

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "check_finite",
    "check_only_numbers",
    "has_only_numbers",
    "is_list",
    "read_from_csv",
    "read_from_json",
    "stood_for",
]

_types = pa.types


def read_from_csv(kind: pa.DataType) -> pa.DataType | None:
    """The type in which a field of CSV is read for a column; None if it has to be told."""
    kind = _plain(kind)
    if _types.is_floating(kind) or _types.is_integer(kind):
        # Costs little, and tells what was written where infinity came of it, or hexadecimal digits stood.
        return pa.string()
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
    if is_list(kind):
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


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is of lists, of whatever layout."""
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
        return _narrowed(array, kind, column)
    if _types.is_string(array.type) and _types.is_floating(kind):
        return _narrowed(_doubles(array, column), kind, column)
    if _types.is_string(array.type) and _types.is_integer(kind):
        return _whole(array, kind, column)
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
    if array.offset and (_types.is_struct(array.type) or is_list(array.type)):
        array = pa.concat_arrays([array])  # whole, as the arrays that are made of parts have to be
    if _types.is_struct(array.type) and _types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        children = [
            stood_for(array.field(number), field.type, f"{column}.{field.name}")
            for number, field in enumerate(fields)
        ]
        names = [field.name for field in fields]
        return pa.StructArray.from_arrays(children, names=names, mask=array.is_null())
    if is_list(array.type) and is_list(kind):
        values = stood_for(array.values, kind.value_type, f"{column}.element")
        return pa.ListArray.from_arrays(array.offsets, values, mask=array.is_null())
    return array


def has_only_numbers(texts: pa.Array, kind: pa.DataType) -> bool:
    """Whether texts that pyarrow takes for numbers of a type may be kept as such: each is equal to its number.

    Not so are hexadecimal digits, zeros in front (``00501`` is a code), and whole numbers that a DOUBLE does
    not have, which pyarrow takes for one where a BIGINT has no room for them, or where others have a point.
    """
    return not (_has_hexadecimal(texts) or _has_others(texts, kind))


def _has_others(texts: pa.Array, kind: pa.DataType) -> bool:
    """Whether a text is no number of a type although it is read as one: a code, or a whole number without its equal."""
    ends = np.frombuffer(texts.buffers()[1] or b"", np.int32)[texts.offset :][: len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    starts, lengths = ends[:-1], np.diff(ends)
    starts = starts[lengths > 1]
    first, second = data[starts], data[starts + 1]
    # Of texts that begin with a sign or a blank the expression says it: most do not.
    if ((first == _ZERO) & (second >= _ZERO) & (second <= _NINE)).any() or (
        (first < _ZERO).any() and pc.any(pc.match_substring_regex(texts, _PADDED)).as_py()
    ):
        return True
    if not _types.is_floating(kind) or not (lengths >= _LONG_DIGITS).any():
        return False
    long = texts.filter(pa.array(lengths >= _LONG_DIGITS))
    long = long.filter(pc.match_substring_regex(long, _LONG_WHOLE)).to_pylist()
    return any(int(text) != float(text) for text in long)


def check_only_numbers(texts: pa.Array, kind: pa.DataType, column: str) -> None:
    """Refuses texts of a column that is of numbers, as those before them are, which stand for others than they are.

    Raises:
        pyarrow.ArrowInvalid: one is another text, or another number, than what it would be read as.
    """
    if not _has_others(texts, kind):
        return
    wrong = next(each for each in texts if _has_others(pa.array([each]), kind)).as_py()
    raise pa.ArrowInvalid(
        f"column {column!r}: conversion error: {wrong[:60]!r} is no {kind}, as the values before it are;"
        f" give the column a type (--types '{column} STRING')"
    )


_PADDED = r"^[ \t]*[-+]?0[0-9]"
_ZERO, _NINE = b"09"
_LONG_DIGITS = 16
_LONG_WHOLE = r"^[ \t]*[-+]?[0-9]{16,308}[ \t]*$"


def _has_hexadecimal(texts: pa.Array) -> bool:
    """Whether one of the texts is written as ``0x1F``, which pyarrow takes for a whole number."""
    data = texts.buffers()[2]
    if data is None or not np.isin(np.frombuffer(data, np.uint8), _HEXADECIMAL_MARKS).any():
        return False
    return bool(pc.any(pc.match_substring_regex(texts, _HEXADECIMAL)).as_py())


_HEXADECIMAL_MARKS = np.frombuffer(b"xX", np.uint8)
_HEXADECIMAL = r"^[ \t]*-?0[xX]"


def _whole(texts: pa.Array, kind: pa.DataType, column: str) -> pa.Array:
    """Texts as whole numbers."""
    if _has_hexadecimal(texts):
        wrong = texts.filter(pc.match_substring_regex(texts, _HEXADECIMAL))[0].as_py()
        raise pa.ArrowInvalid(
            f"column {column!r}: conversion error: {wrong[:60]!r} is no {kind}: whole numbers are "
            "written in decimal digits"
        )
    return _cast_trimmed(texts, kind, column)


def _cast_trimmed(texts: pa.Array, kind: pa.DataType, column: str) -> pa.Array:
    """Texts as numbers; blanks around them do not count, as pyarrow's reader of CSV has it."""
    try:
        try:
            return texts.cast(kind)
        except pa.ArrowInvalid:
            return pc.utf8_trim(texts, " \t").cast(kind)
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(f"column {column!r}: conversion error: {error}") from error


NOT_ZERO = r"^[ \t]*[-+.0-9]*[1-9]"
_NAN_OF_SOME_KIND = r"\("


def _doubles(array: pa.Array, column: str) -> pa.Array:
    """Texts of CSV as numbers."""
    made = _cast_trimmed(array, pa.float64(), column)
    values = pc.fill_null(made, 1.0).to_numpy()
    if np.isnan(values).any():
        wrong = array.filter(pc.match_substring_regex(array, _NAN_OF_SOME_KIND))
        if len(wrong):
            raise pa.ArrowInvalid(
                f"column {column!r}: conversion error: {wrong[0].as_py()[:60]!r} is no number"
            )
    ends = np.isinf(values) | (values == 0)
    if ends.any():
        texts = array.filter(pa.array(ends))
        wrong = texts.filter(pc.match_substring_regex(texts, NOT_ZERO))
        if len(wrong):
            raise _no_such_number(wrong[0].as_py(), pa.float64(), column)
    return made


def _no_such_number(text: str, kind: pa.DataType, column: str) -> pa.ArrowInvalid:
    return pa.ArrowInvalid(
        f"column {column!r}: conversion error: {text[:60]} is too large or too small for {kind}"
    )


def check_finite(array: pa.Array, column: str) -> None:
    """Refuses infinities that a reader made, at every depth, where none can have been written.

    Args:
        array: as pyarrow read it.
        column: its path, for errors.

    Raises:
        pyarrow.ArrowInvalid: there is one.
    """
    if _types.is_floating(array.type):
        if pc.any(pc.is_inf(array)).as_py():
            raise pa.ArrowInvalid(
                f"column {column!r}: conversion error: a number is too large for {array.type},"
                " or infinite"
            )
    elif _types.is_struct(array.type):
        for number, field in enumerate(array.type):
            check_finite(array.field(number), f"{column}.{field.name}")
    elif is_list(array.type):
        check_finite(array.flatten(), f"{column}.element")


def _narrowed(array: pa.Array, kind: pa.DataType, column: str) -> pa.Array:
    if not (_types.is_float16(kind) or _types.is_float32(kind)):
        return array  # durations and such: what was told from the text is cast, or refused
    values = pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        made = values.astype(kind.to_pandas_dtype())
    beyond = (np.isinf(made) & ~np.isinf(values)) | ((made == 0) & (values != 0))
    if beyond.any():
        raise _no_such_number(repr(float(values[beyond][0])), kind, column)
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
