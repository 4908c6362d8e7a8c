"""Numbers of JSON lines that pyarrow's reader would make others of, looked for in the text as it is read."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterator
from typing import IO

import numpy as np
import pyarrow as pa

from fletching.protocol.types.spelt_values import NOT_ZERO, is_list
from fletching.protocol.types.text_encodings import HEAD_BYTES, WatchedFile, wide_encoding

__all__ = ["LongNumbers"]

_types = pa.types

_Path = tuple[str, ...]
"""The names that lead to a value: of its column, of fields, and ``element`` for those of a list."""


class LongNumbers(WatchedFile):
    """JSON lines that are looked at for numbers that no DOUBLE is near to, as they are read.

    pyarrow's reader of JSON makes infinities of numbers of too many digits, and of nothing else but the
    word. It makes zeros of numbers that are too small, and in columns of DOUBLEs other whole numbers of those
    that no DOUBLE has: these are refused here, while they can be told.

    Attributes:
        has_long_numbers: whether there was a number of too many digits in what has been read.
    """

    def __init__(self, file: IO[bytes], typed: Collection[str] = ()) -> None:
        """Reads from ``file``, which stays its owner's; columns that are ``typed`` may be of any digits."""
        super().__init__(file)
        self._typed = frozenset(typed)
        self._begun = False
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._lines = 0
        self._before = b""
        self._line = bytearray()
        self.has_long_numbers = False
        # Whole numbers that no DOUBLE has, by where they stand; of what is a DOUBLE, once that is known.
        self._inexact: dict[_Path, int] = {}
        self._doubles: frozenset[_Path] | None = None

    def tell(self, schema: pa.Schema) -> None:
        """Says what the reader makes of the columns: from here on only DOUBLEs are looked at."""
        self._doubles = frozenset(
            path
            for field in schema
            if field.name not in self._typed
            for path in _double_paths(field.type, (field.name,))
        )

    def check(self) -> None:
        """Refuses what has been read so far if a DOUBLE was made of a whole number that has no equal among them.

        Raises:
            pyarrow.ArrowInvalid: it was.
        """
        for path, number in list(self._inexact.items()):
            if self._doubles and path in self._doubles:
                raise _inexact(
                    number, ".".join(path), "no equal in double, as which the others are read"
                )

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
            mark = codecs.BOM_UTF8
            if data[0] in mark and not mark.startswith(data[: len(mark)]):
                # pyarrow's reader passes over any part of the mark.
                raise pa.ArrowInvalid(
                    "it begins with a byte that is no UTF-8, and JSON lines are UTF-8"
                )
        if data or size:
            self._check_text(data)
        self._look(data)
        text = self._before + data[:_LONG] if self._before else b""
        self.has_long_numbers = (
            self.has_long_numbers
            or _has_run(data, _LONG_NUMBER)
            or _LONG_NUMBER.search(text) is not None
        )
        self._before = data[-_LONG:] if len(data) >= _LONG else (self._before + data)[-_LONG:]
        return data

    def _check_text(self, data: bytes) -> None:
        """Refuses bytes that are no UTF-8, which pyarrow's reader takes into texts; none are the end."""
        started = self._text.getstate()[0]
        if started or not data.isascii() or not data:
            try:
                self._text.decode(data, final=not data)
            except UnicodeDecodeError as error:
                line = self._lines + data.count(b"\n", 0, max(error.start - len(started), 0)) + 1
                raise pa.ArrowInvalid(f"line {line} is no UTF-8, and JSON lines are") from None
        self._lines += data.count(b"\n")

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
            self._look_for_wide(line, 0, len(line))
        _refuse_tiny(data, start, end)
        self._look_for_wide(data, start, end)
        self._line = bytearray(data[end:])

    def _look_for_wide(self, text: bytes, start: int, end: int) -> None:
        """Notes whole numbers that no DOUBLE has, and refuses those that no BIGINT has, either.

        Of columns that have no type, and so get theirs from their values.
        """
        if not _has_wide_run(text):
            return
        seen = start
        has_doubles = self._doubles is None or self._doubles
        least = 2**53 if has_doubles else 2**63
        for match in (_WIDE if has_doubles else _BEYOND).finditer(text, start, end):
            number = int(match[0])
            if match.start() < seen or number < least or int(float(number)) == number:
                continue
            first = text.rfind(b"\n", seen, match.start()) + 1
            last = text.find(b"\n", match.end(), end)
            seen = end if last < 0 else last
            try:
                row = json.loads(text[max(first, start) : seen])
            except (ValueError, RecursionError):
                continue  # what is no JSON is for the reader to say
            for name, value in row.items() if isinstance(row, dict) else ():
                for path, item in () if name in self._typed else _whole_numbers(value, (name,)):
                    if not -(2**63) <= item < 2**63:
                        raise _inexact(item, name, "no equal in int64 or double")
                    if self._doubles is None or path in self._doubles:
                        self._inexact.setdefault(path, item)


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


def _whole_numbers(value: object, path: _Path) -> Iterator[tuple[_Path, int]]:
    """The whole numbers in a value that no DOUBLE has, and where; beyond these the reader refuses by itself."""
    stack = [(path, value)]
    while stack:
        at, item = stack.pop()
        if isinstance(item, dict):
            stack += [((*at, name), each) for name, each in item.items()]
        elif isinstance(item, list):
            stack += [((*at, "element"), each) for each in item]
        elif isinstance(item, int) and abs(item) < 10**308 and int(float(item)) != item:
            yield at, item


def _double_paths(kind: pa.DataType, path: _Path) -> Iterator[_Path]:
    """Where a column that was read from JSON has DOUBLEs."""
    if _types.is_float64(kind):
        yield path
    elif _types.is_struct(kind):
        for field in kind:
            yield from _double_paths(field.type, (*path, field.name))
    elif is_list(kind):
        yield from _double_paths(kind.value_type, (*path, "element"))


def _inexact(number: int, column: str, why: str) -> pa.ArrowInvalid:
    return pa.ArrowInvalid(f"column {column!r}: conversion error: {str(number)[:60]} has {why}")


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
    if value == 0 and re.match(NOT_ZERO, text):
        raise pa.ArrowInvalid(f"JSON conversion error: {text[:60]} is too small for double")
    return value


_DIGITS_BEFORE = re.compile(rb"[0-9][0-9.]*\Z")
_DIGITS = re.compile(rb"[0-9]*")
_NEAR = 48
# So many zeros that an exponent of two digits is enough for what follows them to be too small.
_RUN = re.compile(rb"[0-9]{220}")
_TINY = (re.compile(rb"e-[0-9]{3}"), re.compile(rb"E-[0-9]{3}"), _RUN)

# Whole numbers among which are those that no DOUBLE has, and those that no BIGINT has.
_WIDE = re.compile(rb"(?<![0-9.])(?:9[0-9]{15}|[0-9]{17,308})(?![0-9.eE])")
_BEYOND = re.compile(rb"(?<![0-9.])[0-9]{19,308}(?![0-9.eE])")
_WIDE_STEP = 7


def _has_wide_run(data: bytes) -> bool:
    """Whether 16 digits stand in a row: by each byte only where samples say that there may be."""
    codes = np.frombuffer(data, np.uint8)
    samples = codes[::_WIDE_STEP]
    digits = (samples >= 48) & (samples <= 57)
    if not (digits[1:] & digits[:-1]).any():
        return False
    runs = (codes >= 48) & (codes <= 57)
    for shift in (1, 2, 4, 8):  # of 2, 4, 8 and 16 digits
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
