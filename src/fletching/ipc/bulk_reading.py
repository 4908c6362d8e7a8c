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
from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.errors import FletchingError
from fletching.ipc.batches import FOREIGN_ERRORS, BatchDecoder
from fletching.ipc.layout import BatchLayout
from fletching.ipc.limits import Limits
from fletching.ipc.message import message_at
from fletching.ipc.metadata import MessageHeader, MessageType, MetadataVersion, RecordBatchHeader
from fletching.ipc.schema_header import Endianness
from fletching.ipc.validation import BatchValidator, is_constrained

__all__ = ["read_in_bulk"]

_PREFIX: Final = struct.Struct("<Ii")
_CONTINUATION: Final = 0xFFFFFFFF
MIN_MESSAGES: Final = 4
"""Fewer are read one by one: looking at the first costs as much as at several."""
_GROUP: Final = 128
"""So many batches' offsets are looked at together: they stay in the processor's cache."""
_MAX_DICTIONARY_BYTES: Final = 64 << 10
"""Dictionaries are validated with each batch that uses them; larger ones take another way."""
_MAX_BUFFERS: Final = 4096
_MAX_KINDS: Final = 64
"""Layouts of metadata in one stream: writers make one, or a few where a first batch is of another form."""
_Matrix = NDArray[np.int64]


@dataclasses.dataclass(slots=True)
class _Kind:
    """Messages whose metadata has one layout.

    Attributes:
        metadata: of the first.
        head: unpacks prefix, type and the body's length at once, the latter two in either order.
        type_index: which of the four the type is.
        body_length_at: where the body's length stands in it; likewise the others.
        starts: where the messages' metadata starts.
    """

    metadata: bytes
    head: struct.Struct
    type_index: int
    body_length_at: int
    length_at: int
    nodes_at: int
    buffers_at: int
    header: RecordBatchHeader
    starts: list[int]
    numbers: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class _Look:
    """What is to be looked at in a node: its kind, its own buffers, and what the kind needs."""

    kind: str
    buffers: int
    dtype: str = ""
    count: int = 0
    children: int = 0


def _children_of(looks: list[_Look], node: int) -> list[int]:
    """The numbers of a struct's child nodes."""
    found = []
    child = node + 1
    for _ in range(looks[node].children):
        found.append(child)
        child = _behind(looks, child)
    return found


def _behind(looks: list[_Look], node: int) -> int:
    """The number of the node behind another and all below it."""
    look = looks[node]
    child = node + 1
    for _ in range(1 if look.kind == "list" else look.children):
        child = _behind(looks, child)
    return child


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
        if end is None or len(scan.bodies) < MIN_MESSAGES or not scan.check():
            return None
        batches = list(pa.ipc.open_stream(pa.py_buffer(view[start:end])))
        if len(batches) != len(scan.bodies):
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
        self.bodies: list[tuple[int, int]] = []  # of record batches: start and length
        self._layout: BatchLayout | None = None
        self._dictionaries = 0
        self._seen_schema = False
        self._version = MetadataVersion.V5
        self._checked: list[tuple[_Kind, _Matrix, _Matrix]] = []

    def run(self, position: int) -> int | None:
        """Finds the messages; returns the end of the stream."""
        view, end = self._view, len(self._view)
        prefix = _PREFIX.unpack_from
        kind: _Kind | None = None
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
                return position + 8
            found = message_at(view, position, end, self._limits)
            if isinstance(found, int):
                return None
            if found.type is MessageType.RECORD_BATCH:
                kind = self._kinds.get(length)
                if kind is None:
                    kind = self._kind(found.header, bytes(found.metadata))
                    if kind is None or len(self._kinds) == _MAX_KINDS:
                        return None
                    self._kinds[length] = kind
                self._take(kind, position + 8, found.body_length)
            elif found.type is MessageType.DICTIONARY_BATCH:
                self._decoder.decode(found)
                self._dictionaries += 1
                if self._decoder.dictionary_bytes > _MAX_DICTIONARY_BYTES:
                    return None
            elif found.type is not MessageType.SCHEMA or self._seen_schema:
                return None
            else:
                self._seen_schema = True
            position = found.end
        return position if position == end else None

    def _run_of(self, kind: _Kind, position: int) -> int:
        """Takes the messages that look like one kind, as far as they follow each other."""
        end, view = len(self._view), self._view
        unpack, reach = kind.head.unpack_from, kind.head.size
        wanted, length = (_CONTINUATION, len(kind.metadata)), len(kind.metadata)
        starts, numbers, bodies = kind.starts, kind.numbers, self.bodies
        last = end - max(reach, 8 + length)
        record_batch = int(MessageType.RECORD_BATCH)
        before, repeated, patience = -1, 0, 2
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
                alike = self._as_long(kind, position, 8 + length + body_length)
                starts.extend((alike + 8).tolist())
                numbers.extend(range(len(bodies), len(bodies) + len(alike)))
                bodies.extend((place, body_length) for place in (alike + 8 + length).tolist())
                position += len(alike) * (8 + length + body_length)
                # Lengths that were the same by chance are not taken for a rule the next time.
                patience = 2 if len(alike) > _GROUP else 2 * patience
                before, repeated = -1, 0
                continue
            starts.append(position + 8)
            numbers.append(len(bodies))
            bodies.append((body, body_length))
            position = body + body_length
        return position

    def _as_long(self, kind: _Kind, position: int, size: int) -> _Matrix:
        """Where messages begin that follow each other and begin as the one at ``position`` does.

        Values of a fixed width make messages of one length: their heads are compared as a matrix.

        Args:
            kind: what the message at ``position`` is.
            position: of a message that lies wholly in the data.
            size: of that message, and so of those that are looked for.
        """
        reach = kind.head.size
        heads = np.lib.stride_tricks.sliding_window_view(self._bytes, reach)
        first = heads[position]
        found = []
        last = len(self._view) - size
        while position <= last:
            group = position + size * np.arange(min(_GROUP, (last - position) // size + 1))
            alike = (heads[group] == first).all(axis=1)
            if not alike.all():
                found.append(group[: int(alike.argmin())])
                break
            found.append(group)
            position += size * len(group)
        return np.concatenate(found)

    def _take(self, kind: _Kind, start: int, body_length: int) -> None:
        kind.starts.append(start)
        kind.numbers.append(len(self.bodies))
        self.bodies.append((start + len(kind.metadata), body_length))

    def _kind(self, message: MessageHeader, metadata: bytes) -> _Kind | None:
        """The kind that a message founds; None if it is none that is read here."""
        if self._layout is None:
            self._version = message.version
            self._layout = BatchLayout(self._decoder.schema.types, message.version)
        header = message.record_batch(self._limits)
        places = (
            message.message.uint8_position(1),
            message.message.int64_position(3),
            message.table.int64_position(0),
        )
        if message.version is not self._version or header.compression is not None:
            return None
        if 0 in places or not len(header.buffers) or len(header.buffers) > _MAX_BUFFERS:
            return None
        self._layout.check(header, message.body_length, self._limits)
        nodes, _ = message.table.vector(1, 16)
        buffers, _ = message.table.vector(2, 16)
        type_at, body_length_at, length_at = places
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
        rows = np.lib.stride_tricks.sliding_window_view(self._bytes, length)[kind.starts]
        header = kind.header
        constant = np.ones(length, bool)
        for start, size in (
            (kind.body_length_at, 8),
            (kind.length_at, 8),
            (kind.nodes_at, 16 * len(header.nodes)),
            (kind.buffers_at, 16 * len(header.buffers)),
        ):
            constant[start : start + size] = False
        first, mask = np.frombuffer(kind.metadata, np.uint8), np.where(constant, 0xFF, 0)
        mask = mask.astype(np.uint8)
        for start in range(0, len(rows), _GROUP):
            differ = rows[start : start + _GROUP] ^ first
            differ &= mask
            if differ.any():
                return False
        nodes = _numbers(rows, kind.nodes_at, 2 * len(header.nodes))
        buffers = _numbers(rows, kind.buffers_at, 2 * len(header.buffers))
        self._checked.append((kind, nodes, buffers))
        return self._layout.all_fit(
            header.variadic_counts,
            rows=_numbers(rows, kind.length_at, 1)[:, 0],
            body_lengths=_numbers(rows, kind.body_length_at, 1)[:, 0],
            nodes=(nodes[:, 0::2], nodes[:, 1::2]),
            buffers=(buffers[:, 0::2], buffers[:, 1::2]),
            max_rows=self._limits.max_rows,
        )

    # --- contents ----------------------------------------------------------------------------------

    def validate(self, batches: list[pa.RecordBatch]) -> None:
        """Validates all batches; raises if one is not valid."""
        validator = self._decoder.validator
        if self._decoder.has_dictionaries:
            validator = BatchValidator(self._decoder.schema, values=self._decoder.validate_values)
        looks = self._looks()
        for kind, nodes, buffers in self._checked:
            numbers = kind.numbers
            if looks is not None:
                left = self._left_of(kind, looks, nodes, buffers)
                numbers = [numbers[index] for index in left]
            for number in numbers:
                validator.check(batches[number], self.bodies[number][1])

    def _looks(self) -> list[_Look] | None:
        """What is to be looked at in each node; None if there is a type that is not known here."""
        looks: list[_Look] = []
        for index, data_type in enumerate(self._decoder.schema.types):
            if not self._add_looks(looks, data_type, index):
                return None
        return looks

    def _add_looks(self, looks: list[_Look], data_type: pa.DataType, column: int | None) -> bool:
        """Adds a type's nodes, its own and those below it; ``column`` is its number if it is one."""
        types = pa.types
        if isinstance(data_type, pa.BaseExtensionType):
            return False
        if types.is_string(data_type) or types.is_binary(data_type):
            looks.append(_Look("text" if types.is_string(data_type) else "binary", 3))
        elif types.is_dictionary(data_type):
            # One dictionary for all batches; deltas and replacements take the other way.
            count = None
            if self._dictionaries == 1 and column is not None:
                count = self._decoder.only_dictionary(column)
            if count is None:
                return False
            code = "u" if types.is_unsigned_integer(data_type.index_type) else "i"
            width = data_type.index_type.bit_width // 8
            looks.append(_Look("indices", 2, dtype=f"<{code}{width}", count=count))
        elif types.is_list(data_type):
            looks.append(_Look("list", 2))
            return self._add_looks(looks, data_type.value_type, None)
        elif types.is_struct(data_type):
            looks.append(_Look("struct", 1, children=data_type.num_fields))
            return all(self._add_looks(looks, field.type, None) for field in data_type)
        elif (
            types.is_integer(data_type)
            or types.is_floating(data_type)
            or types.is_timestamp(data_type)
            or types.is_duration(data_type)
            or types.is_date32(data_type)
            or types.is_fixed_size_binary(data_type)
            or (is_constrained(data_type) and not self._decoder.validate_values)
        ):
            looks.append(_Look("fixed", 2))
        else:
            return False
        return True

    def _left_of(
        self, kind: _Kind, looks: list[_Look], nodes: _Matrix, buffers: _Matrix
    ) -> list[int]:
        """Which messages of a kind are left to be validated one by one.

        Values of a fixed width hold nothing that could be wrong. Offsets must not decrease, nor lead
        outside; text is UTF-8 if its bytes are ASCII; indices must lie inside their dictionary;
        children of a struct are as long as the struct at least; and as many bits as the metadata
        says must be unset in a bitmap of nulls.
        """
        bad = np.zeros(len(kind.numbers), bool)
        bodies = np.array([self.bodies[number][0] for number in kind.numbers], np.int64)
        position = 0
        for node, look in enumerate(looks):
            lengths, nulls = nodes[:, 2 * node], nodes[:, 2 * node + 1]
            rows = int(lengths[0])
            same = bool((lengths == rows).all())
            content = look.kind not in ("fixed", "struct")
            if (content or nulls.any()) and (not same or rows == 0):
                bad |= nulls > 0
                if content:
                    bad[:] = True
            else:
                if nulls.any():
                    bad |= self._nulls_differ(bodies + buffers[:, 2 * position], nulls, rows)
                starts = bodies + buffers[:, 2 * position + 2] if look.buffers > 1 else bodies
                if look.kind == "list":
                    bad |= self._offsets_are_bad(starts, rows, nodes[:, 2 * node + 2])
                elif look.kind in ("text", "binary"):
                    sizes = buffers[:, 2 * position + 5]
                    bad |= self._offsets_are_bad(starts, rows, sizes)
                    if look.kind == "text":
                        bad |= self._is_not_ascii(bodies + buffers[:, 2 * position + 4], sizes)
                elif look.kind == "indices":
                    bad |= nulls > 0  # what stands in the place of a null may be any number
                    bad |= self._leads_outside(starts, rows, np.dtype(look.dtype), look.count)
            if look.kind == "struct":
                for child in _children_of(looks, node):
                    bad |= nodes[:, 2 * child] < lengths
            position += look.buffers
        found: list[int] = np.flatnonzero(bad).tolist()
        return found

    def _windows(self, starts: _Matrix, size: int) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """The bytes at many places, a group at a time, as rows of a matrix (copied)."""
        window = np.lib.stride_tricks.sliding_window_view(self._bytes, size)
        for first in range(0, len(starts), _GROUP):
            part = slice(first, first + _GROUP)
            yield part, window[np.minimum(starts[part], len(window) - 1)]

    def _nulls_differ(self, starts: _Matrix, nulls: _Matrix, rows: int) -> NDArray[np.bool_]:
        differ = np.zeros(len(starts), bool)
        for part, bitmaps in self._windows(starts, (rows + 7) // 8):
            if rows % 8:
                bitmaps[:, -1] &= (1 << rows % 8) - 1
            counted = np.bitwise_count(bitmaps).sum(axis=1, dtype=np.int64)
            # Without nulls there may be no bitmap, and nobody looks at one.
            differ[part] = (nulls[part] > 0) & (rows - counted != nulls[part])
        return differ

    def _offsets_are_bad(self, starts: _Matrix, rows: int, limits: _Matrix) -> NDArray[np.bool_]:
        bad = np.zeros(len(starts), bool)
        for part, window in self._windows(starts, 4 * (rows + 1)):
            values = window.view("<i4")
            bad[part] = (values[:, 1:] < values[:, :-1]).any(axis=1)
            bad[part] |= (values[:, 0] < 0) | (values[:, -1] > limits[part])
        return bad

    def _is_not_ascii(self, starts: _Matrix, sizes: _Matrix) -> NDArray[np.bool_]:
        view = self._view
        # A copy, since a view cannot be asked; it stays in the processor's cache.
        return np.array(
            [
                not bytes(view[start : start + size]).isascii()
                for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
            ]
        )

    def _leads_outside(
        self, starts: _Matrix, rows: int, dtype: np.dtype[np.generic], count: int
    ) -> NDArray[np.bool_]:
        outside = np.zeros(len(starts), bool)
        for part, window in self._windows(starts, dtype.itemsize * rows):
            values = window.view(dtype)
            outside[part] = (values.min(axis=1) < 0) | (values.max(axis=1) >= count)
        return outside


def _numbers(rows: NDArray[np.uint8], start: int, count: int) -> _Matrix:
    """The 64-bit numbers that stand at one place of every row."""
    return np.ascontiguousarray(rows[:, start : start + 8 * count]).view("<i8")
