"""Which field nodes and buffers each column of a schema takes in a record batch message.

A record batch lists the nodes and buffers of all its fields depth first, with nothing that says
where one column ends: that follows from the types alone. Each type takes one node, its own buffers
and then its children:

========================================  =======================================================
type                                      buffers
========================================  =======================================================
null, run-end encoded                     none (run-end encoded before V5: validity)
boolean, number, time, decimal, fixed     validity, data
size binary, interval
(large) utf8, (large) binary              validity, offsets, data
utf8 view, binary view                    validity, views, then as many as the variadic count says
(large) list, map                         validity, offsets
(large) list view                         validity, offsets, sizes
struct, fixed size list                   validity
dense union                               type ids, offsets (before V5: validity first)
sparse union                              type ids (before V5: validity first)
dictionary                                as its index type
extension                                 as its storage type
========================================  =======================================================
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.errors import LimitExceededError, MalformedFrameError
from fletching.ipc.limits import Limits
from fletching.ipc.metadata import MetadataVersion, RecordBatchHeader
from fletching.ipc.type_tree import is_flat

__all__ = ["BatchLayout", "BufferKind", "ColumnSpan", "child_types", "layout_of"]

FEW_BUFFERS = 256
"""Up to so many, one at a time in Python is faster than all at once in numpy."""


class BufferKind(enum.IntEnum):
    """What a buffer holds."""

    VALIDITY = 0
    DATA = 1
    OFFSETS = 2
    SIZES = 3
    TYPE_IDS = 4
    VIEWS = 5
    VARIADIC = 6
    TEXT = 7


@dataclasses.dataclass(frozen=True, slots=True)
class _Buffer:
    """A buffer of a node: it holds at least ``(length + extra) * bits`` bits."""

    kind: BufferKind
    bits: int = 0
    extra: int = 0


_VALIDITY: Final = _Buffer(BufferKind.VALIDITY, 1)


def child_types(data_type: pa.DataType) -> list[pa.DataType]:
    """The types of a type's children in the order of the message; a dictionary's are its own affair."""
    if isinstance(data_type, pa.BaseExtensionType):
        return child_types(data_type.storage_type)
    if pa.types.is_dictionary(data_type):
        return []
    return [data_type.field(index).type for index in range(data_type.num_fields)]


def _buffers_of(data_type: pa.DataType, version: MetadataVersion) -> tuple[_Buffer, ...]:
    types = pa.types
    if isinstance(data_type, pa.BaseExtensionType):
        return _buffers_of(data_type.storage_type, version)
    if types.is_dictionary(data_type):
        return _VALIDITY, _Buffer(BufferKind.DATA, data_type.index_type.bit_width)
    if types.is_null(data_type):
        return ()
    if types.is_run_end_encoded(data_type):
        # The format had no such type before V5; pyarrow gives it a bitmap when it writes V4.
        return (_VALIDITY,) if version is MetadataVersion.V4 else ()
    if types.is_union(data_type):
        own = [_Buffer(BufferKind.TYPE_IDS, 8)]
        if data_type.mode == "dense":
            own.append(_Buffer(BufferKind.OFFSETS, 32))
        return (_VALIDITY, *own) if version is MetadataVersion.V4 else tuple(own)
    if types.is_struct(data_type) or types.is_fixed_size_list(data_type):
        return (_VALIDITY,)
    if types.is_string(data_type) or types.is_binary(data_type):
        return _VALIDITY, _Buffer(BufferKind.OFFSETS, 32, 1), _Buffer(BufferKind.TEXT)
    if types.is_large_string(data_type) or types.is_large_binary(data_type):
        return _VALIDITY, _Buffer(BufferKind.OFFSETS, 64, 1), _Buffer(BufferKind.TEXT)
    if types.is_string_view(data_type) or types.is_binary_view(data_type):
        return _VALIDITY, _Buffer(BufferKind.VIEWS, 128), _Buffer(BufferKind.VARIADIC)
    if types.is_list(data_type) or types.is_map(data_type):
        return _VALIDITY, _Buffer(BufferKind.OFFSETS, 32, 1)
    if types.is_large_list(data_type):
        return _VALIDITY, _Buffer(BufferKind.OFFSETS, 64, 1)
    if types.is_list_view(data_type):
        return _VALIDITY, _Buffer(BufferKind.OFFSETS, 32), _Buffer(BufferKind.SIZES, 32)
    if types.is_large_list_view(data_type):
        return _VALIDITY, _Buffer(BufferKind.OFFSETS, 64), _Buffer(BufferKind.SIZES, 64)
    return _VALIDITY, _Buffer(BufferKind.DATA, data_type.bit_width)


_FLAT_TYPES: Final[dict[int, pa.DataType]] = {}
"""One type of each number of flat types, all of which have the same buffers."""


def layout_of(
    types: list[pa.DataType], version: MetadataVersion = MetadataVersion.V5
) -> BatchLayout:
    """The layout of a schema's types; what was compiled for the same kinds of flat types serves again.

    Every stream asks for one, and for thousands of columns it takes longer than a batch of them.
    """
    if all(is_flat(each) and not pa.types.is_fixed_size_binary(each) for each in types):
        for each in types:
            _FLAT_TYPES.setdefault(each.id, each)
        return _flat_layout(tuple(each.id for each in types), version)
    return BatchLayout(types, version)


@functools.lru_cache(maxsize=16)  # the tables that one program reads at a time, kilobytes each
def _flat_layout(numbers: tuple[int, ...], version: MetadataVersion) -> BatchLayout:
    return BatchLayout([_FLAT_TYPES[number] for number in numbers], version)


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnSpan:
    """Where one column's nodes, buffers and variadic counts stand in a batch; half-open ranges."""

    node_start: int
    node_end: int
    buffer_start: int
    buffer_end: int
    variadic_start: int
    variadic_end: int


class BatchLayout:
    """The nodes and buffers of all columns of a schema, compiled once and used for every batch.

    Attributes:
        nodes: field nodes in every batch.
        fixed_buffers: buffers in every batch, without those that variadic counts add.
        view_fields: fields whose data buffers a variadic count numbers.
    """

    def __init__(
        self, types: list[pa.DataType], version: MetadataVersion = MetadataVersion.V5
    ) -> None:
        node_of: list[int] = []
        kinds: list[int] = []
        bits: list[int] = []
        extra: list[int] = []
        views: list[int] = []  # positions in the fixed buffers before which variadic ones stand
        roots: list[int] = []
        spans: list[ColumnSpan] = []
        unions: list[int] = []
        nodes = 0
        for column in types:
            start = nodes, len(node_of), len(views)
            roots.append(nodes)
            for data_type in _depth_first(column):
                if pa.types.is_union(data_type):
                    unions.append(nodes)
                for buffer in _buffers_of(data_type, version):
                    if buffer.kind is BufferKind.VARIADIC:
                        views.append(len(node_of))
                        continue
                    node_of.append(nodes)
                    kinds.append(buffer.kind)
                    bits.append(buffer.bits)
                    extra.append(buffer.extra)
                nodes += 1
            spans.append(ColumnSpan(start[0], nodes, start[1], len(node_of), start[2], len(views)))
        self.nodes = nodes
        self.fixed_buffers = len(node_of)
        self.view_fields = len(views)
        self._spans = spans
        self._views = views
        self._unions = unions
        self._root_nodes = roots
        self._roots = np.array(roots, np.int64)
        self._node_of = np.array(node_of, np.int64)
        self._kinds = np.array(kinds, np.int64)
        self._bits = np.array(bits, np.int64)
        self._extra = np.array(extra, np.int64)
        # The same once more for `_fits`: node, bits, extra values, whether it is a bitmap.
        self._plan = [
            (node, width, more, kind == BufferKind.VALIDITY)
            for node, width, more, kind in zip(node_of, bits, extra, kinds, strict=True)
        ]
        self._is_validity = self._kinds == BufferKind.VALIDITY
        self._is_offsets = self._extra > 0

    def spans(self, header: RecordBatchHeader) -> list[ColumnSpan]:
        """Where each column stands in this batch; `check` it first.

        Without view types this is the same for every batch and costs nothing.
        """
        if not self._views:
            return self._spans
        # How many variadic buffers stand before the i-th view field.
        before = [0]
        for count in header.variadic_counts:
            before.append(before[-1] + count)
        return [
            dataclasses.replace(
                span,
                buffer_start=span.buffer_start + before[span.variadic_start],
                buffer_end=span.buffer_end + before[span.variadic_end],
            )
            for span in self._spans
        ]

    def check_counts(self, header: RecordBatchHeader) -> None:
        """Refuses a header whose numbers of nodes, buffers or variadic counts the schema does not give.

        Raises:
            MalformedFrameError: they differ, or a variadic count is negative.
        """
        if len(header.nodes) != self.nodes:
            raise _mismatch("field nodes", self.nodes, len(header.nodes))
        counts = header.variadic_counts
        # Writers of schemas without view types may give an empty vector; none may give a longer one.
        if len(counts) != self.view_fields:
            raise _mismatch("variadic counts", self.view_fields, len(counts))
        if counts and min(counts) < 0:
            raise _mismatch("variadic buffers", "0 or more", min(counts))
        buffers = self.fixed_buffers + sum(counts)
        if len(header.buffers) != buffers:
            raise _mismatch("buffers", buffers, len(header.buffers))

    def check(self, header: RecordBatchHeader, body_length: int, limits: Limits) -> None:
        """Everything that metadata alone can get wrong, given the schema.

        Costs half a microsecond per buffer of a batch with few buffers, some 50 for any other.

        Counts, signs, that every column is as long as the batch, that every buffer lies inside the
        body and overlaps no other, and that none is shorter than its field needs. After this no
        arithmetic on the header can overflow or leave the body.

        Raises:
            MalformedFrameError: one of these does not hold.
            LimitExceededError: a child array claims more values than ``limits.max_rows``.
        """
        self.check_counts(header)
        nodes, buffers = header.nodes, header.buffers
        if self._fits(header, body_length, limits):
            return
        lengths, nulls = nodes[:, 0], nodes[:, 1]
        if len(nodes):
            if lengths.min() < 0 or nulls.min() < 0 or (nulls > lengths).any():
                bad = int(((lengths < 0) | (nulls < 0) | (nulls > lengths)).argmax())
                raise _mismatch(
                    f"a length and null count (node {bad})",
                    "0 <= null count <= length",
                    nodes[bad].tolist(),
                )
            if lengths.max() > limits.max_rows:
                raise LimitExceededError(
                    "a child array is too long",
                    layer="record batch",
                    actual=int(lengths.max()),
                    limit=limits.max_rows,
                )
            wrong = lengths[self._roots] != header.length
            if wrong.any():
                column = int(wrong.argmax())
                raise _mismatch(
                    f"rows in column {column}", header.length, int(lengths[self._roots[column]])
                )
        if not len(buffers):
            return
        starts, sizes = buffers[:, 0], buffers[:, 1]
        outside = (starts < 0) | (sizes < 0) | (starts > body_length)
        if not outside.any():
            outside = sizes > body_length - starts
        if outside.any():
            bad = int(outside.argmax())
            raise _mismatch(
                f"buffer {bad} inside the body",
                f"within 0..{body_length}",
                buffers[bad].tolist(),
            )
        _check_overlap(starts, sizes)
        if header.compression is None:
            self.check_sizes(header, sizes)

    def _fits(self, header: RecordBatchHeader, body_length: int, limits: Limits) -> bool:
        """Whether a header is as writers make it: buffers few, uncompressed, and in order.

        True only if all of `check` holds. False says nothing: the rest of `check` then finds out
        what is wrong, if anything is. Numbers are Python's, so nothing overflows; for as many
        buffers as tables have columns this is ten times as fast as numpy.
        """
        if self._views or header.compression is not None or len(self._plan) > FEW_BUFFERS:
            return False
        nodes: list[tuple[int, int]] = header.nodes.tolist()
        for length, nulls in nodes:
            if not 0 <= nulls <= length <= limits.max_rows:
                return False
        for root in self._root_nodes:
            if nodes[root][0] != header.length:
                return False
        end = 0
        for (start, size), (node, bits, extra, is_validity) in zip(
            header.buffers.tolist(), self._plan, strict=True
        ):
            length, nulls = nodes[node]
            if size > 0:
                if start < end or size * 8 < (length + extra) * bits:
                    return False
                end = start + size
                if end > body_length:
                    return False
                continue
            may_be_absent = (
                (is_validity and nulls == 0)
                or (extra > 0 and length == 0)
                or (length + extra) * bits == 0
            )
            if size < 0 or not may_be_absent or not 0 <= start <= body_length:
                return False
        return True

    def all_fit(
        self,
        variadic_counts: tuple[int, ...],
        *,
        rows: NDArray[np.int64],
        body_lengths: NDArray[np.int64],
        nodes: tuple[NDArray[np.int64], NDArray[np.int64]],
        buffers: tuple[NDArray[np.int64], NDArray[np.int64]],
        max_rows: int,
    ) -> bool:
        """Whether many headers at once are as writers make them: uncompressed, buffers in order.

        True only if all of `check` holds for each of them; False says nothing.

        Args:
            variadic_counts: the same for all.
            rows: batch lengths.
            body_lengths: bytes of the bodies.
            nodes: lengths and null counts, each of shape (headers, nodes).
            buffers: starts and sizes, each of shape (headers, buffers).
            max_rows: the limit of every length.
        """
        (lengths, nulls), (starts, sizes) = nodes, buffers
        if rows.min() < 0 or nulls.min() < 0 or lengths.max() > max_rows:
            return False
        if (nulls > lengths).any() or (lengths[:, self._roots] != rows[:, None]).any():
            return False
        bodies = body_lengths[:, None]
        if starts.min() < 0 or sizes.min() < 0 or (starts > bodies).any():
            return False
        ends = starts + sizes  # the sizes are looked at next: a sum that overflowed is negative
        if ends.min() < 0 or (ends > bodies).any():
            return False
        reached = np.maximum.accumulate(np.where(sizes > 0, ends, 0), axis=1)
        if ((starts[:, 1:] < reached[:, :-1]) & (sizes[:, 1:] > 0)).any():
            return False
        if self._views:
            variadic = self._indices_of_variadic(variadic_counts)
            sizes = np.delete(sizes, variadic, axis=1)
        values = lengths[:, self._node_of]
        # Lengths are below 2**31 and widths far below 2**31 bits, unless a type declares more.
        if int(self._bits.max(initial=0)) >= 1 << 31:
            return False
        required = ((values + self._extra) * self._bits + 7) >> 3
        absent = (sizes == 0) & (
            (self._is_validity & (nulls[:, self._node_of] == 0))
            | (self._is_offsets & (values == 0))
        )
        return not bool(((sizes < required) & ~absent).any())

    def check_sizes(self, header: RecordBatchHeader, sizes: NDArray[np.int64]) -> None:
        """Refuses buffers that are shorter than their field's length needs.

        Args:
            header: a header that passed the other checks of `check`.
            sizes: bytes of each buffer after decompression.

        Raises:
            MalformedFrameError: a buffer is too short.
        """
        if self._views:
            sizes = np.delete(sizes, self._variadic_positions(header))
        lengths = header.nodes[self._node_of, 0]
        # In floating point, because a length times a declared width can pass 2**63; exact up to
        # 2**53 bytes, and no body is larger than that.
        required = np.ceil((lengths + self._extra).astype(np.float64) * self._bits / 8)
        # A bitmap may be absent where nothing is null, and offsets where there is no value.
        absent = (sizes == 0) & (
            (self._is_validity & (header.nodes[self._node_of, 1] == 0))
            | (self._is_offsets & (lengths == 0))
        )
        short = (sizes < required) & ~absent
        if short.any():
            bad = int(short.argmax())
            raise _mismatch(
                f"bytes in a {BufferKind(int(self._kinds[bad])).name.lower()} buffer"
                f" of field {int(self._node_of[bad])}",
                f"at least {int(required[bad])}",
                int(sizes[bad]),
            )

    def has_empty_union(self, header: RecordBatchHeader) -> bool:
        """Whether a union, at any depth, has no values in this batch."""
        return bool(self._unions) and not header.nodes[self._unions, 0].all()

    def _variadic_positions(self, header: RecordBatchHeader) -> list[int]:
        return self._indices_of_variadic(header.variadic_counts)

    def _indices_of_variadic(self, counts: tuple[int, ...]) -> list[int]:
        positions: list[int] = []
        for position, count in zip(self._views, counts, strict=True):
            first = position + len(positions)
            positions.extend(range(first, first + count))
        return positions


def _depth_first(data_type: pa.DataType) -> Iterator[pa.DataType]:
    yield data_type
    for child in child_types(data_type):
        yield from _depth_first(child)


def _check_overlap(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    present = sizes > 0
    starts, sizes = starts[present], sizes[present]
    if not len(starts):
        return
    ends = starts + sizes
    if (starts[1:] >= ends[:-1]).all():
        return
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    overlaps = starts[1:] < ends[:-1]
    if overlaps.any():
        bad = int(overlaps.argmax())
        raise _mismatch(
            "buffers that do not overlap",
            f"a start of at least {int(ends[bad])}",
            int(starts[bad + 1]),
        )


def _mismatch(what: str, expected: object, actual: object) -> MalformedFrameError:
    return MalformedFrameError(
        f"a record batch has the wrong {what}: expected {expected}, got {actual}",
        layer="record batch",
        expected=expected,
        actual=actual,
    )
