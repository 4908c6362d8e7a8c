"""The pages of a Parquet file, walked by their headers: what decoding needs, before anything decodes.

A Parquet reader believes its file: it makes room for what a page says, however few bytes it came in,
and repeats the values of a dictionary as often as it is told. The footer repeats some of it, and may
lie; the page headers are what the reader goes by, so they are what is added up here. Of a header (a
struct of Thrift's compact protocol) only the sizes, counts and encodings are kept.
"""

from __future__ import annotations

import dataclasses
from typing import IO, TYPE_CHECKING, TypeAlias

from fletching.errors import InvalidArgumentError, LimitExceededError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = ["MAX_PAGES", "ParquetNeed", "parquet_need"]

MAX_PAGES = 1_000_000
"""Pages of one file: their headers are walked one by one."""
BATCH_ROWS = 65_536
"""Rows that are decoded at a time, where they fit."""

_HEADER_BYTES = 1024
_MAX_HEADER_BYTES = 16 << 20
_WIDTHS = {"BOOLEAN": 1, "INT32": 8, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
# Beside each value: what says how deep it stands, whether it is null, and where a text ends.
_LEVEL_BYTES = 8


@dataclasses.dataclass(slots=True)
class _Chunk:
    """The pages of one column in one row group."""

    dictionary: int = 0  # bytes of its dictionary, decompressed
    largest: int = 0  # bytes of its largest page, decompressed
    total: int = 0  # bytes of all pages, decompressed
    values: int = 0  # that its data pages hold, nulls included
    shared: bool = False  # whether values begin with what others hold


@dataclasses.dataclass(frozen=True, slots=True)
class ParquetNeed:
    """How a file is to be read, and what that takes.

    Attributes:
        batch_rows: rows per batch.
        dictionaries: paths of the columns to be read as dictionaries: made plain, a value would
            stand in memory as often as rows name it.
        decoded_bytes: what one batch takes at most, with the pages that are open for it.
    """

    batch_rows: int
    dictionaries: list[str]
    decoded_bytes: int


def parquet_need(file: IO[bytes], metadata: pq.FileMetaData, limit: int) -> ParquetNeed:
    """Walks the pages of a file.

    Args:
        file: can be sought; where it stands afterwards is not said.
        metadata: pyarrow's `FileMetaData` of it.
        limit: what reading a batch may take.

    Raises:
        InvalidArgumentError: the pages are not where the footer says, or say nothing sensible.
        LimitExceededError: one row at a time takes more than the limit, or there are too many pages.
    """
    dictionaries: set[str] = set()
    batch_rows = BATCH_ROWS
    most = pages = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        fixed = 0.0  # whatever is read, however few rows at a time
        per_row = 0.0
        bounded: list[tuple[float, float]] = []  # (per row, at most)
        for index in range(group.num_columns):
            column, schema = group.column(index), metadata.schema.column(index)
            chunk, walked = _chunk(file, column, MAX_PAGES - pages)
            pages += walked
            fixed += chunk.largest + 2 * chunk.dictionary
            kind = column.physical_type
            width = schema.length if kind == "FIXED_LEN_BYTE_ARRAY" else _WIDTHS.get(kind, 8)
            if kind == "BYTE_ARRAY" and chunk.dictionary:
                dictionaries.add(column.path_in_schema)
            if schema.max_repetition_level:
                # How many of a chunk's values are in one row, only the levels inside its pages say.
                fixed += chunk.values * (width + _LEVEL_BYTES)
                per_value = chunk.values
            else:
                per_row += width + _LEVEL_BYTES
                per_value = 1
            if kind == "BYTE_ARRAY":
                if chunk.shared:
                    # A value may begin with all of the one before it.
                    bounded.append((float(per_value * chunk.total), float("inf")))
                else:
                    bounded.append((float(chunk.largest), float(chunk.total)))

        def need(
            rows: int,
            fixed: float = fixed,
            per_row: float = per_row,
            bounded: list[tuple[float, float]] = bounded,
        ) -> float:
            return fixed + rows * per_row + sum(min(rows * each, most) for each, most in bounded)

        while batch_rows > 1 and need(batch_rows) > limit:
            batch_rows //= 2
        if need(batch_rows) > limit:
            raise LimitExceededError(
                f"row group {number} of the Parquet file takes more memory than there is for one: "
                "write it with smaller row groups and pages",
                actual=int(min(need(batch_rows), 2.0**62)),
                limit=limit,
            )
        most = max(most, int(need(batch_rows)))
    return ParquetNeed(batch_rows, sorted(dictionaries), most)


def _chunk(file: IO[bytes], column: pq.ColumnChunkMetaData, left: int) -> tuple[_Chunk, int]:
    """What the pages of a column in a row group say, and how many they are."""
    position = column.data_page_offset
    if column.dictionary_page_offset is not None and 0 < column.dictionary_page_offset < position:
        position = column.dictionary_page_offset
    end = position + column.total_compressed_size
    chunk, pages = _Chunk(), 0
    while position < end and chunk.values < column.num_values:
        header, length = _header(file, position)
        pages += 1
        if pages > left:
            raise LimitExceededError("the Parquet file has too many pages", limit=MAX_PAGES)
        size, stored = header.get(2), header.get(3)
        if not isinstance(size, int) or not isinstance(stored, int) or size < 0 or stored < 0:
            raise _broken(position)
        if header.get(1) == _DICTIONARY_PAGE:
            chunk.dictionary += size
        else:
            chunk.largest = max(chunk.largest, size)
            for field, encoding in _DATA_PAGES.items():
                inner = header.get(field, {})
                if not isinstance(inner, dict):
                    raise _broken(position)
                values = inner.get(1, 0)
                if not isinstance(values, int) or values < 0:
                    raise _broken(position)
                chunk.values += values
                chunk.shared = chunk.shared or inner.get(encoding) == _DELTA_BYTE_ARRAY
        chunk.total += size
        position += length + stored
    return chunk, pages


_DICTIONARY_PAGE = 2
# The fields of a header for data pages of both versions, and in them where the encoding stands.
_DATA_PAGES = {5: 2, 8: 4}
_DELTA_BYTE_ARRAY = 7


def _header(file: IO[bytes], position: int) -> tuple[_Fields, int]:
    size = _HEADER_BYTES
    while True:
        file.seek(position)
        data = file.read(size)
        try:
            return _Compact(data).struct()
        except IndexError:
            if len(data) < size or size >= _MAX_HEADER_BYTES:
                raise _broken(position) from None
            size *= 4
        except ValueError:
            raise _broken(position) from None


def _broken(position: int) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"the body is not readable as parquet: there is no page header at byte {position}"
    )


_FieldValue: TypeAlias = "bool | int | dict[int, _FieldValue] | None"
_Fields = dict[int, _FieldValue]
"""Fields of a struct by their ids."""


class _Compact:
    """Reads a struct of Thrift's compact protocol; IndexError where the bytes end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self, depth: int = 0) -> tuple[_Fields, int]:
        """The fields by their ids, and how many bytes they took."""
        if depth > 8:
            raise ValueError
        fields: _Fields = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = self._value(head & 15, depth, in_list=False)
        return fields, self._at

    def _value(self, kind: int, depth: int, *, in_list: bool) -> _FieldValue:
        match kind:
            case 1 | 2:
                return self._byte() == 1 if in_list else kind == 1
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._zigzag()
            case 7:
                self._skip(8)
                return None
            case 8:
                self._skip(self._varint())
                return None
            case 9 | 10:
                if depth > 8:
                    raise ValueError
                head = self._byte()
                count = head >> 4 if head >> 4 != 15 else self._varint()
                if count > len(self._data):
                    raise ValueError
                for _ in range(count):
                    self._value(head & 15, depth + 1, in_list=True)
                return None
            case 12:
                return self.struct(depth + 1)[0]
        raise ValueError

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def _skip(self, count: int) -> None:
        if count > len(self._data) - self._at:
            raise IndexError
        self._at += count

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
