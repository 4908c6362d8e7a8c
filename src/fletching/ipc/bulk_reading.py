"""Many batches of one stream at a time: their metadata is checked together, and pyarrow reads them.

Batches of one schema have metadata of one layout: all bytes are the same but for the numbers, which
stand at the same places. So the metadata of many messages is a matrix of bytes. The first of its
kind is checked as any message is; of the others the constant bytes are compared with it, and the
checks of `BatchLayout` are made on columns of numbers. Then pyarrow's own stream reader makes the
batches, and their contents are validated.

This is a fast way, no other: whatever is not as ordinary writers make it gives None, and the message
by message way decides, whose errors say what is wrong and where. What is accepted here is accepted
there, and gives equal batches.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.errors import FletchingError
from fletching.ipc.batches import FOREIGN_ERRORS, BatchDecoder
from fletching.ipc.bulk_contents import (
    GROUP,
    BulkContents,
    CheckedMessages,
    Matrix,
    at_steps,
    rows_at,
)
from fletching.ipc.layout import BatchLayout, layout_of
from fletching.ipc.limits import Limits
from fletching.ipc.message import Message, message_at
from fletching.ipc.metadata import MessageHeader, MessageType, MetadataVersion, RecordBatchHeader
from fletching.ipc.schema_header import Endianness
from fletching.ipc.validation import BatchValidator

__all__ = ["read_in_bulk"]

_PREFIX: Final = struct.Struct("<Ii")
_CONTINUATION: Final = 0xFFFFFFFF
MIN_MESSAGES: Final = 28
"""Fewer are read one by one: making the matrices costs as much as looking at so many messages."""
_MAX_DICTIONARY_BYTES: Final = 64 << 10
"""Dictionaries are validated with each batch that uses them; larger ones take another way."""
_MOST_HEADS: Final = 8192
"""So many are compared at once at most: a matrix of them takes half a megabyte."""
_MAX_BUFFERS: Final = 4096
_MAX_KINDS: Final = 64
"""Layouts of metadata in one stream: writers make one, or a few where a first batch is of another form."""


@dataclasses.dataclass(slots=True)
class _Kind:
    """Messages whose metadata has one layout.

    Attributes:
        metadata: of the first.
        head: unpacks prefix, type and the body's length at once, the latter two in either order.
        type_index: which of the four the type is.
        body_length_at: where the body's length stands in it; likewise the others.
        starts: where the messages' metadata starts, in parts.
        numbers: which of the stream's batches they are, likewise.
    """

    metadata: bytes
    head: struct.Struct
    type_index: int
    body_length_at: int
    length_at: int
    nodes_at: int
    buffers_at: int
    header: RecordBatchHeader
    starts: list[Matrix]
    numbers: list[Matrix]


def read_in_bulk(
    view: memoryview, start: int, decoder: BatchDecoder, limits: Limits
) -> tuple[list[pa.RecordBatch], int] | None:
    """The batches behind a stream's schema message, and where the stream ends; None if in doubt.

    Args:
        view: all of the data.
        start: where the schema message starts.
        decoder: of the stream, which has seen nothing but the schema message.
        limits: what messages may claim.
    """
    if decoder.header.endianness is not Endianness.LITTLE or decoder.require_zero_copy:
        return None
    if decoder.has_unions:
        return None  # those without values are put together anew
    try:
        scan = _Scan(view, decoder, limits)
        end = scan.run(start)
        if end is None or scan.count < MIN_MESSAGES or not scan.check():
            return None
        batches = list(pa.ipc.open_stream(pa.py_buffer(view[start:end])))
        if len(batches) != scan.count:
            return None
        if not decoder.trusted:
            scan.validate(batches)
    except (FletchingError, *FOREIGN_ERRORS):
        return None  # the other way says what is wrong
    return batches, end


class _Scan:
    def __init__(self, view: memoryview, decoder: BatchDecoder, limits: Limits) -> None:
        self._view = view
        self._bytes = np.frombuffer(view, np.uint8)
        self._decoder = decoder
        self._limits = limits
        self._kinds: dict[int, _Kind] = {}
        self.count = 0  # of record batches
        self._layout: BatchLayout | None = None
        self._dictionaries = 0
        self._seen_schema = False
        self._version = MetadataVersion.V5
        self._checked: list[CheckedMessages] = []

    def run(self, position: int) -> int | None:
        """Finds the messages; returns the end of the stream."""
        view, end = self._view, len(self._view)
        prefix = _PREFIX.unpack_from
        kind: _Kind | None = None
        waiting: list[Message] = []  # dictionaries, decoded only if there are batches enough
        while position < end:
            if kind is not None:
                position = self._run_of(kind, position)
                if position == end:
                    break
            if end - position < 8:
                return None
            marker, length = prefix(view, position)
            if marker != _CONTINUATION or length < 0:
                return None
            if length == 0:
                return position + 8 if self._remembers(waiting) else None
            message = message_at(view, position, end, self._limits)
            if isinstance(message, int):
                return None
            if message.type is MessageType.RECORD_BATCH:
                if not self.count and end - position < MIN_MESSAGES * (message.end - position):
                    return None  # there are not enough of its size
                if not self._remembers(waiting):
                    return None
                kind = self._kinds.get(length)
                if kind is None:
                    kind = self._kind(message.header, bytes(message.metadata))
                    if kind is None or len(self._kinds) == _MAX_KINDS:
                        return None
                    self._kinds[length] = kind
                self._take(kind, np.array([position + 8]))
            elif message.type is MessageType.DICTIONARY_BATCH:
                waiting.append(message)
                self._dictionaries += 1
            elif message.type is not MessageType.SCHEMA or self._seen_schema:
                return None
            else:
                self._seen_schema = True
            position = message.end
        return position if position == end and self._remembers(waiting) else None

    def _remembers(self, waiting: list[Message]) -> bool:
        """Decodes dictionaries; False if there are too many bytes of them."""
        for dictionary in waiting:
            self._decoder.decode(dictionary)
            if self._decoder.dictionary_bytes > _MAX_DICTIONARY_BYTES:
                return False
        waiting.clear()
        return True

    def _run_of(self, kind: _Kind, position: int) -> int:
        """Takes the messages that look like one kind, as far as they follow each other."""
        end, view = len(self._view), self._view
        unpack, reach = kind.head.unpack_from, kind.head.size
        wanted, length = (_CONTINUATION, len(kind.metadata)), len(kind.metadata)
        last = end - max(reach, 8 + length)
        record_batch = int(MessageType.RECORD_BATCH)
        before, repeated, patience = -1, 0, 2
        starts: list[int] = []
        while position <= last:
            head = unpack(view, position)
            if head[:2] != wanted or head[kind.type_index] != record_batch:
                break
            body = position + 8 + length
            body_length = head[5 - kind.type_index]
            if not 0 <= body_length <= end - body:
                break
            repeated = repeated + 1 if body_length == before else 0
            before = body_length
            if repeated == patience:
                size = 8 + length + body_length
                alike = self._as_long(kind, position, size)
                self._take(kind, np.array(starts, np.int64))
                self._take(kind, position + 8 + size * np.arange(alike))
                starts.clear()
                position += alike * size
                # Lengths that were the same by chance are not taken for a rule the next time.
                patience = 2 if alike > GROUP else 2 * patience
                before, repeated = -1, 0
                continue
            starts.append(position + 8)
            position = body + body_length
        self._take(kind, np.array(starts, np.int64))
        return position

    def _as_long(self, kind: _Kind, position: int, size: int) -> int:
        """How many messages follow each other that begin as the one at ``position`` does.

        Values of a fixed width make messages of one length: their heads are compared as a matrix.

        Args:
            kind: what the message at ``position`` is.
            position: of a message that lies wholly in the data.
            size: of that message, and so of those that are looked for.
        """
        reach = kind.head.size
        left = (len(self._view) - position) // size
        first = self._bytes[position : position + reach]
        alike_count, group = 0, GROUP
        while alike_count < left:
            # Twice as many each time: what is looked at in vain is no more than what was found.
            group = min(2 * group, _MOST_HEADS, left - alike_count)
            heads = at_steps(self._bytes, position + alike_count * size, size, group, reach)
            alike = heads == first
            if not alike.all():
                return alike_count + int(alike.all(axis=1).argmin())
            alike_count += group
        return alike_count

    def _take(self, kind: _Kind, starts: Matrix) -> None:
        kind.starts.append(starts)
        kind.numbers.append(np.arange(self.count, self.count + len(starts)))
        self.count += len(starts)

    def _kind(self, message: MessageHeader, metadata: bytes) -> _Kind | None:
        """The kind that a message founds; None if it is none that is read here."""
        if self._layout is None:
            self._version = message.version
            self._layout = layout_of(self._decoder.schema.types, message.version)
        header = message.record_batch(self._limits)
        positions = (
            message.message.uint8_position(1),
            message.message.int64_position(3),
            message.table.int64_position(0),
        )
        if message.version is not self._version or header.compression is not None:
            return None
        if 0 in positions or not len(header.buffers) or len(header.buffers) > _MAX_BUFFERS:
            return None
        self._layout.check(header, message.body_length, self._limits)
        nodes, _ = message.table.vector(1, 16)
        buffers, _ = message.table.vector(2, 16)
        type_at, body_length_at, length_at = positions
        first, second = sorted(((type_at, "B", 1), (body_length_at, "q", 8)))
        gap = second[0] - first[0] - first[2]
        head = struct.Struct(f"<Ii{first[0]}x{first[1]}{gap}x{second[1]}")
        index = 2 if type_at < body_length_at else 3
        return _Kind(
            metadata, head, index, body_length_at, length_at, nodes, buffers, header, [], []
        )

    # --- metadata ----------------------------------------------------------------------------------

    def check(self) -> bool:
        """Whether all messages pass the checks of `BatchLayout.check`."""
        return all(self._check_kind(kind) for kind in self._kinds.values())

    def _check_kind(self, kind: _Kind) -> bool:
        assert self._layout is not None
        length = len(kind.metadata)
        starts = np.concatenate(kind.starts)
        rows = rows_at(self._bytes, starts, length)
        header = kind.header
        constant = np.full(length, 0xFF, np.uint8)
        for start, size in (
            (kind.body_length_at, 8),
            (kind.length_at, 8),
            (kind.nodes_at, 16 * len(header.nodes)),
            (kind.buffers_at, 16 * len(header.buffers)),
        ):
            constant[start : start + size] = 0
        first = np.frombuffer(kind.metadata, np.uint8)
        for start in range(0, len(rows), GROUP):
            differ = rows[start : start + GROUP] ^ first
            differ &= constant
            if differ.any():
                return False
        checked = CheckedMessages(
            np.concatenate(kind.numbers),
            starts + length,
            _numbers(rows, kind.body_length_at, 1)[:, 0],
            _numbers(rows, kind.nodes_at, 2 * len(header.nodes)),
            _numbers(rows, kind.buffers_at, 2 * len(header.buffers)),
        )
        self._checked.append(checked)
        return self._layout.all_fit(
            header.variadic_counts,
            rows=_numbers(rows, kind.length_at, 1)[:, 0],
            body_lengths=checked.body_lengths,
            nodes=(checked.nodes[:, 0::2], checked.nodes[:, 1::2]),
            buffers=(checked.buffers[:, 0::2], checked.buffers[:, 1::2]),
            max_rows=self._limits.max_rows,
        )

    def validate(self, batches: list[pa.RecordBatch]) -> None:
        """Validates all batches; raises if one is not valid."""
        validator = self._decoder.validator
        if self._decoder.has_dictionaries:
            validator = BatchValidator(self._decoder.schema, values=self._decoder.validate_values)
        contents = BulkContents(self._view, self._bytes, self._decoder, self._dictionaries)
        for checked in self._checked:
            left = contents.doubtful(checked)
            numbers, sizes = checked.numbers[left], checked.body_lengths[left]
            for number, size in zip(numbers.tolist(), sizes.tolist(), strict=True):
                validator.check(batches[number], size)


def _numbers(rows: NDArray[np.uint8], start: int, count: int) -> Matrix:
    """The 64-bit numbers that stand at one place of every row."""
    return np.ascontiguousarray(rows[:, start : start + 8 * count]).view("<i8")
