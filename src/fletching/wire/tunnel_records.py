"""Writes the table tunnel's record stream; its layout is in `tunnel_layouts`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from crc32c import crc32c
from numpy.typing import NDArray
from typing_extensions import Buffer

from fletching.errors import UsageError
from fletching.wire.tunnel_checksums import RowChecksums
from fletching.wire.tunnel_layouts import (
    MAX_FIELDS,
    MOMENT_TYPE,
    ROW_COUNT,
    STREAM_CHECKSUM,
    Kind,
    RecordLayout,
    record_tag,
    varint,
)
from fletching.wire.tunnel_rows import RowAssembly
from fletching.wire.tunnel_value_bytes import (
    byte_strings,
    covered_by_checksum,
    list_counts,
    number_parts,
    offsets_of,
    sent_elements,
    sent_value,
    varint_words,
    zigzag,
)

__all__ = ["MOMENT_TYPE", "Kind", "RecordEncoder", "RecordLayout", "row_checksums"]

Mask = NDArray[np.bool_]

_FIXED = {Kind.INTEGER, Kind.BOOLEAN, Kind.FLOAT, Kind.DOUBLE, Kind.MOMENT}


class RecordEncoder:
    """Makes a record stream of Arrow columns."""

    def __init__(self, layouts: Sequence[RecordLayout]) -> None:
        """Takes the columns' layouts, in their order on the wire.

        Raises:
            UsageError: more columns than tags, or none.
        """
        if not 1 <= len(layouts) <= MAX_FIELDS:
            raise UsageError(f"a record stream has 1 to {MAX_FIELDS} columns, not {len(layouts)}")
        self._layouts = tuple(layouts)
        self._rows = 0
        self._checksum = 0

    def encode(self, columns: Sequence[pa.Array]) -> Buffer:
        """The bytes of some rows.

        Args:
            columns: one array a layout, of its type and of one length.

        Returns:
            A buffer of its own. Costs a few copies of each value, none of them in Python.

        Raises:
            UsageError: arrays that are not as the layouts say.
        """
        if len(columns) != len(self._layouts):
            raise UsageError(f"{len(columns)} columns for {len(self._layouts)} layouts")
        rows = len(columns[0])
        for number, (layout, column) in enumerate(
            zip(self._layouts, columns, strict=True), start=1
        ):
            if column.type != layout.type or len(column) != rows:
                raise UsageError(f"column {number} is {column.type}, not {layout.type}")
        if not rows:
            return b""
        assembly = RowAssembly(rows)
        for number, (layout, column) in enumerate(
            zip(self._layouts, columns, strict=True), start=1
        ):
            _add(assembly, record_tag(number, layout), layout, column)
        sums = row_checksums(self._layouts, columns)
        self._rows += rows
        self._checksum = crc32c(sums.astype("<u4").tobytes(), self._checksum)
        return assembly.finish(sums)

    def finish(self) -> bytes:
        """The end of the stream: the number of rows, and the checksum over all of them."""
        return (
            varint(ROW_COUNT << 3)
            + varint(self._rows << 1)
            + varint(STREAM_CHECKSUM << 3)
            + varint(self._checksum)
        )


def row_checksums(
    layouts: Sequence[RecordLayout], columns: Sequence[pa.Array]
) -> NDArray[np.uint32]:
    """The CRC32C that each row of some columns has in a record stream."""
    checksums = RowChecksums(len(columns[0]))
    for number, (layout, column) in enumerate(zip(layouts, columns, strict=True), start=1):
        here = _here(column)
        if layout.kind in _FIXED:
            checksums.fixed(number, number_parts(layout, column), here)
            continue
        covered = covered_by_checksum(layout, column)
        data = covered.buffers()[2]
        content = np.frombuffer(b"" if data is None else data, np.uint8)
        checksums.strings(number, content, offsets_of(covered), here)
    return checksums.sums


def _here(column: pa.Array) -> Mask | None:
    if not column.null_count:
        return None
    result: Mask = column.is_valid().to_numpy(zero_copy_only=False)
    return result


def _add(assembly: RowAssembly, tag: bytes, layout: RecordLayout, column: pa.Array) -> None:
    """Adds a column: tags and values."""
    here = _here(column)
    match layout.kind:
        case Kind.INTEGER | Kind.MOMENT:
            for part in number_parts(layout, column):
                numbers = zigzag(part.astype(np.int64, copy=False))
                assembly.tagged(tag, varint_words(numbers), here)
                tag = b""
        case Kind.BOOLEAN | Kind.FLOAT | Kind.DOUBLE:
            (values,) = number_parts(layout, column)
            width = values.dtype.itemsize
            words = values.view(f"<u{width}").astype(np.uint64)
            number = int.from_bytes(tag, "little")
            if len(tag) + width <= 8:
                words = words << np.uint64(8 * len(tag)) | np.uint64(number)
                assembly.words(words, len(tag) + width, here)
            else:
                assembly.words(number, len(tag), here)
                assembly.words(words, width, here)
        case Kind.BYTES:
            content = byte_strings(column)
            offsets = offsets_of(content)
            lengths = np.diff(offsets).astype(np.uint64)
            assembly.tagged(tag, varint_words(lengths), here)
            assembly.strings(content.buffers()[2] or b"", offsets)
        case Kind.LIST | Kind.MAP | Kind.VECTOR:
            starts, ends = list_counts(column)
            counts = varint_words((ends - starts).astype(np.uint64))
            for elements in sent_elements(layout, column):
                assembly.tagged(tag, counts, here)
                assembly.strings(elements.buffers()[2] or b"", offsets_of(elements))
                tag = b""
        case Kind.STRUCT:
            assembly.words(int.from_bytes(tag, "little"), len(tag), here)
            fields = sent_value(layout, column)
            assembly.strings(fields.buffers()[2] or b"", offsets_of(fields))
