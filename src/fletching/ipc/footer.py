"""`read_footer`: the footer of an Arrow IPC file, read from its end and checked against its size.

A file is ``ARROW1`` and two bytes of padding, a stream, the footer's flatbuffer, its length as a
little-endian i32, and ``ARROW1`` again.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Sequence
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from fletching.errors import (
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    WireError,
)
from fletching.ipc.encoding import encode_schema_reference
from fletching.ipc.file_writer import Block
from fletching.ipc.flatbuffer import Table, root_table
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.message import CONTINUATION, MAGIC, relocated
from fletching.ipc.metadata import MetadataVersion, read_key_values
from fletching.ipc.recognition import HEAD_BYTES, looks_like
from fletching.ipc.schema_header import SchemaHeader, read_schema_header
from fletching.ipc.source import Source

__all__ = ["Blocks", "Footer", "not_a_file", "read_footer", "read_footer_metadata"]

_BLOCK: Final = np.dtype(
    {
        "names": ["offset", "metadata_length", "body_length"],
        "formats": ["<i8", "<i4", "<i8"],
        "offsets": [0, 8, 16],
        "itemsize": 24,
    }
)
_TAIL_BYTES: Final = 10  # i32 footer length, magic
_FIRST_READ_BYTES: Final = 64 << 10


class Blocks(Sequence[Block]):
    """Where messages stand in a file, as the footer lists them: a sequence of `Block`.

    Kept as numbers, and made into blocks when they are asked for: a file may list millions.

    Attributes:
        table: int64 of shape (blocks, 3): offset, metadata length and body length.
    """

    __slots__ = ("table",)

    def __init__(self, table: NDArray[np.int64]) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> Block: ...

    @overload
    def __getitem__(self, index: slice) -> Blocks: ...

    def __getitem__(self, index: int | slice) -> Block | Blocks:
        if isinstance(index, slice):
            return Blocks(self.table[index])
        return Block(*self.table[index].tolist())

    def __iter__(self) -> Iterator[Block]:
        return (Block(*numbers) for numbers in self.table.tolist())

    def __eq__(self, other: object) -> bool:
        """Whether another sequence has the same blocks."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # compared by value

    def __repr__(self) -> str:
        """Like the list of them."""
        return f"Blocks({list(self)})"


@dataclasses.dataclass(frozen=True, slots=True)
class Footer:
    """What a file's footer says; block offsets count from the file's start.

    Attributes:
        pairs: key-value pairs as they stand, keys that occur twice included.
        schema: the footer's own copy of the schema's header.
        schema_metadata: a schema message made of that copy.
        start: where the footer's flatbuffer starts.
        end: where the file ends.
    """

    version: MetadataVersion
    dictionaries: Blocks
    batches: Blocks
    pairs: tuple[tuple[bytes, bytes], ...]
    schema: SchemaHeader
    schema_metadata: bytes = dataclasses.field(repr=False)
    start: int
    end: int

    @property
    def custom_metadata(self) -> dict[bytes, bytes]:
        """The key-value pairs; of those that share a key the last."""
        return dict(self.pairs)


def read_footer(
    source: Source, offset: int, length: int, limits: Limits = DEFAULT_LIMITS
) -> Footer:
    """Reads and checks the footer of the file in ``length`` bytes at ``offset``.

    Raises:
        TruncatedStreamError: too short for a file, or the closing magic is missing.
        MalformedFrameError: not an Arrow file, or a footer that points outside it.
        LimitExceededError: a footer above the metadata limit.
    """
    view, start = _find_footer(source, offset, length, limits)
    try:
        return _parse_footer(view, start - offset, length, limits)
    except WireError as error:
        raise relocated(error, start) from None


def read_footer_metadata(
    source: Source, offset: int, length: int, limits: Limits = DEFAULT_LIMITS
) -> dict[bytes, bytes]:
    """The footer's custom metadata alone, which takes a fraction of the time; errors as of `read_footer`."""
    view, start = _find_footer(source, offset, length, limits)
    try:
        return dict(read_key_values(root_table(view), 4, limits))
    except WireError as error:
        raise relocated(error, start) from None


def _find_footer(
    source: Source, offset: int, length: int, limits: Limits
) -> tuple[memoryview, int]:
    """The footer's flatbuffer, and where it starts."""
    if length < 8 + _TAIL_BYTES:
        head = bytes(source.view(offset, offset + length))
        if length and not MAGIC.startswith(head[: len(MAGIC)]):
            raise not_a_file(head, offset)
        raise TruncatedStreamError(
            "too short for an Arrow IPC file",
            layer="file",
            offset=offset,
            expected=8 + _TAIL_BYTES,
            actual=length,
        )
    head = bytes(source.view(offset, offset + min(length, HEAD_BYTES)))
    if not head.startswith(MAGIC):
        raise not_a_file(head, offset)
    end = offset + length
    tail_start = max(offset + 8, end - (_TAIL_BYTES if source.mapped else _FIRST_READ_BYTES))
    tail = source.view(tail_start, end)
    if bytes(tail[-len(MAGIC) :]) != MAGIC:
        raise TruncatedStreamError(
            "the file does not end with ARROW1: its writer died, or it was cut;"
            " recover() rebuilds the footer",
            layer="file",
            offset=end - len(MAGIC),
            expected="ARROW1",
        )
    (footer_length,) = struct.unpack_from("<i", tail, len(tail) - _TAIL_BYTES)
    if not 0 < footer_length <= length - 8 - _TAIL_BYTES:
        raise MalformedFrameError(
            "the footer's length does not fit the file",
            layer="footer",
            offset=end - _TAIL_BYTES,
            expected=f"1..{length - 8 - _TAIL_BYTES}",
            actual=footer_length,
        )
    if footer_length > limits.max_metadata_bytes:
        raise LimitExceededError(
            "the footer is too long",
            layer="footer",
            offset=end - _TAIL_BYTES,
            actual=footer_length,
            limit=limits.max_metadata_bytes,
        )
    start = end - _TAIL_BYTES - footer_length
    view = (
        tail[start - tail_start : -_TAIL_BYTES]
        if start >= tail_start
        else source.view(start, end - _TAIL_BYTES)
    )
    return view, start


def not_a_file(head: bytes, offset: int) -> WireError:
    """The error for data that does not start like a file, from its first bytes."""
    name = looks_like(head)
    if head[:4] == CONTINUATION:
        name = "an Arrow IPC stream (read_stream reads it)"
    return MalformedFrameError(
        "the file does not start with ARROW1" + (f": it looks like {name}" if name else ""),
        layer="file",
        offset=offset,
        expected="ARROW1",
    )


def _parse_footer(view: memoryview, start: int, length: int, limits: Limits) -> Footer:
    table = root_table(view)
    # Writers before 0.15 left the version out; what their messages say is V4.
    number = table.int16(0, MetadataVersion.V4)
    if number not in (MetadataVersion.V4, MetadataVersion.V5):
        raise MalformedFrameError(
            "unknown footer version", layer="footer", expected="V4 or V5", actual=f"V{number + 1}"
        )
    version = MetadataVersion(number)
    schema = table.table(1)
    if schema is None:
        raise MalformedFrameError("the footer has no schema", layer="footer")
    return Footer(
        version,
        _blocks(table, 2, start),
        _blocks(table, 3, start),
        read_key_values(table, 4, limits),
        read_schema_header(schema, version, limits),
        encode_schema_reference(view, schema.position, version),
        start,
        length,
    )


def _blocks(table: Table, slot: int, end: int) -> Blocks:
    start, count = table.vector(slot, 24)
    stored = np.frombuffer(table.data, _BLOCK, count, start)
    blocks = np.empty((count, 3), np.int64)
    for column, name in enumerate(_BLOCK.names or ()):
        if name:
            blocks[:, column] = stored[name]
    offsets, metadata, bodies = blocks.T
    # Each is compared with what the others leave of the file, so that no sum can overflow.
    outside = (offsets < 8) | (offsets > end) | (metadata < 8) | (bodies < 0)
    outside |= bodies > end - offsets - metadata
    if outside.any():
        bad = int(outside.argmax())
        raise MalformedFrameError(
            f"block {bad} of the footer lies outside the file's messages",
            layer="footer",
            expected=f"within 8..{end}",
            actual=tuple(blocks[bad].tolist()),
        )
    return Blocks(blocks)
