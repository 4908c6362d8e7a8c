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
import json
import re
from collections.abc import Collection
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching.protocol.types.text_encodings import HEAD_BYTES, wide_encoding

__all__ = [
    "LongNumbers",
    "check_finite",
    "has_only_numbers",
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


def has_only_numbers(texts: pa.Array, kind: pa.DataType) -> bool:
    """Whether texts that pyarrow takes for numbers of a type may be kept as such: each is equal to its number.

    Not so are hexadecimal digits, zeros in front (``00501`` is a code), and whole numbers that a DOUBLE does
    not have, which pyarrow takes for one where a BIGINT has no room for them, or where others have a point.
    """
    if _has_hexadecimal(texts) or pc.any(pc.match_substring_regex(texts, _PADDED)).as_py():
        return False
    if not _types.is_floating(kind):
        return True
    long = texts.filter(pc.match_substring_regex(texts, _LONG_WHOLE)).to_pylist()
    return all(int(text) == float(text) for text in long)


_PADDED = r"^[ \t]*[-+]?0[0-9]"
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


_NOT_ZERO = r"^[ \t]*[-+.0-9]*[1-9]"
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
        wrong = texts.filter(pc.match_substring_regex(texts, _NOT_ZERO))
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
    elif _is_list(array.type):
        check_finite(array.flatten(), f"{column}.element")


class LongNumbers:
    """JSON lines that are looked at for numbers that no DOUBLE is near to, as they are read.

    pyarrow's reader of JSON makes infinities of numbers of too many digits, and of nothing else but the
    word. It makes zeros of numbers that are too small: these are refused here, while they can be told
    from zeros.

    Attributes:
        match: whether there was a number of too many digits in what has been read.
    """

    def __init__(self, file: IO[bytes], typed: Collection[str] = ()) -> None:
        """Reads from ``file``, which stays its owner's; columns that are ``typed`` may be of any digits."""
        self._file = file
        self._typed = frozenset(typed)
        self._begun = False
        self._before = b""
        self._line = bytearray()
        self.has_long_numbers = False

    @property
    def closed(self) -> bool:
        """Whether nothing can be read."""
        return self._file.closed

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        """The next bytes, as a file's ``read``.

        Raises:
            pyarrow.ArrowInvalid: of a number in these lines nothing but zero would be left, or they are no
                UTF-8.
        """
        data = self._file.read(size)
        if not self._begun and data:
            self._begun = True
            wide = wide_encoding(data[:HEAD_BYTES])
            if wide is not None:
                raise pa.ArrowInvalid(
                    f"it looks like {wide[:6].upper()} text, and JSON lines are UTF-8"
                )
        self._look(data)
        text = self._before + data[:_LONG] if self._before else b""
        self.has_long_numbers = (
            self.has_long_numbers
            or _has_run(data, _LONG_NUMBER)
            or _LONG_NUMBER.search(text) is not None
        )
        self._before = data[-_LONG:] if len(data) >= _LONG else (self._before + data)[-_LONG:]
        return data

    def _look(self, data: bytes) -> None:
        """Looks at each line that is whole by now; at the end of the file at what is left."""
        end = data.rfind(b"\n") + 1
        if data and not end:
            self._line += data
            return
        start = 0
        if self._line:
            start = data.find(b"\n") + 1
            self._line += data[:start]
            line = bytes(self._line)
            _refuse_tiny(line, 0, len(line))
            _refuse_wide(line, 0, len(line), self._typed)
        _refuse_tiny(data, start, end)
        _refuse_wide(data, start, end, self._typed)
        self._line = bytearray(data[end:])


def _refuse_tiny(text: bytes, start: int, end: int) -> None:
    """Refuses lines in which a number other than zero is nearer to zero than to any DOUBLE."""
    for pattern in _TINY if _has_run(text, _RUN) else _TINY[:-1]:
        seen = start
        for match in pattern.finditer(text, start, end):
            if match.start() < seen or not _may_be_tiny(text, match):
                continue
            first = text.rfind(b"\n", seen, match.start()) + 1
            last = text.find(b"\n", match.end(), end)
            seen = end if last < 0 else last
            try:
                json.loads(text[max(first, start) : seen], parse_float=_not_tiny)
            except pa.ArrowInvalid:
                raise
            except (ValueError, RecursionError):
                pass  # what is no JSON is for the reader to say


def _refuse_wide(text: bytes, start: int, end: int, typed: frozenset[str]) -> None:
    """Refuses lines in which a whole number would be the DOUBLE near to it, since no BIGINT holds it.

    Of columns that have no type, and so get theirs from their values.
    """
    if not _has_wide_run(text):
        return
    seen = start
    for match in _WIDE.finditer(text, start, end):
        if match.start() < seen:
            continue
        first = text.rfind(b"\n", seen, match.start()) + 1
        last = text.find(b"\n", match.end(), end)
        seen = end if last < 0 else last
        try:
            row = json.loads(text[max(first, start) : seen])
        except (ValueError, RecursionError):
            continue  # what is no JSON is for the reader to say
        for name, value in row.items() if isinstance(row, dict) else ():
            number = None if name in typed else _wide_number(value)
            if number is not None:
                raise pa.ArrowInvalid(
                    f"column {name!r}: conversion error: {str(number)[:60]} is too large for int64, and has no"
                    " equal in double"
                )


def _wide_number(value: object) -> int | None:
    """A whole number in a value that neither a BIGINT nor a DOUBLE has; None if there is none."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, list):
            stack += item
        elif isinstance(item, int) and _is_wide(item):
            return item
    return None


def _is_wide(number: int) -> bool:
    """Whether neither a BIGINT nor a DOUBLE has a number; beyond these the reader refuses it by itself."""
    if -(2**63) <= number < 2**63 or abs(number) >= 10**308:
        return False
    return int(float(number)) != number


def _may_be_tiny(text: bytes, match: re.Match[bytes]) -> bool:
    """Whether the digits before an exponent may make it a number of which only zero would be left."""
    if match.re is _RUN:
        return True
    before = _DIGITS_BEFORE.search(text, max(match.start() - _NEAR, 0), match.start())
    if before is None:
        return False  # part of a text
    after = _DIGITS.match(text, match.end(), match.end() + _NEAR)
    assert after is not None
    if len(before[0]) + len(after[0]) >= _NEAR:
        return True
    return float(before[0] + match[0] + after[0]) == 0


def _not_tiny(text: str) -> float:
    value = float(text)
    if value == 0 and re.match(_NOT_ZERO, text):
        raise pa.ArrowInvalid(f"JSON conversion error: {text[:60]} is too small for double")
    return value


_DIGITS_BEFORE = re.compile(rb"[0-9][0-9.]*\Z")
_DIGITS = re.compile(rb"[0-9]*")
_NEAR = 48
# So many zeros that an exponent of two digits is enough for what follows them to be too small.
_RUN = re.compile(rb"[0-9]{220}")
_TINY = (re.compile(rb"e-[0-9]{3}"), re.compile(rb"E-[0-9]{3}"), _RUN)

# Digits of the least whole number that no BIGINT holds.
_WIDE = re.compile(rb"[0-9]{19,308}")
_WIDE_STEP = 9


def _has_wide_run(data: bytes) -> bool:
    """Whether 19 digits stand in a row: by each byte only where samples say that there may be."""
    codes = np.frombuffer(data, np.uint8)
    samples = codes[::_WIDE_STEP]
    digits = (samples >= 48) & (samples <= 57)
    if not (digits[1:] & digits[:-1]).any():
        return False
    runs = (codes >= 48) & (codes <= 57)
    for shift in (1, 2, 4, 8, 3):  # of 2, 4, 8, 16 and 19 digits
        runs = runs[:-shift] & runs[shift:]
    return bool(runs.any())


_LONG = 309
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % _LONG)
_STEP = 96


def _has_run(data: bytes, wanted: re.Pattern[bytes]) -> bool:
    """Whether so many digits stand in a row: a run of them covers two samples at least."""
    samples = np.frombuffer(data, np.uint8)[::_STEP]
    digits = (samples >= 48) & (samples <= 57)
    for position in (np.flatnonzero(digits[1:] & digits[:-1]) * _STEP).tolist():
        if wanted.search(data, max(position - _LONG, 0), position + 2 * _LONG) is not None:
            return True
    return False


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
