"""What many batches of one stream hold, looked at together: offsets, text, indices, bitmaps of nulls.

The numbers of all messages of one kind stand in a matrix, and so do the bytes they lead to, a group of
messages at a time. What is found correct here needs no other look; what is not, or is not known here, is
left to pyarrow's validation, batch by batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.ipc.batches import BatchDecoder
from fletching.ipc.validation import is_constrained

__all__ = ["GROUP", "BulkContents", "CheckedMessages", "Matrix", "at_steps", "rows_at"]

GROUP: Final = 128
"""So many batches' offsets are looked at together: they stay in the processor's cache."""
_TEXT_BYTES: Final = 1 << 20
"""About how much text is looked at together, for the same reason."""
Matrix: TypeAlias = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedMessages:
    """Messages of one kind whose metadata is correct: the numbers in it, one row for each message.

    Attributes:
        numbers: which of the stream's batches they are.
        bodies: where their bodies start.
        body_lengths: of these.
        nodes: length and null count of each node in turn.
        buffers: start in the body and size of each buffer in turn.
    """

    numbers: Matrix
    bodies: Matrix
    body_lengths: Matrix
    nodes: Matrix
    buffers: Matrix


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
    result = []
    child = node + 1
    for _ in range(looks[node].children):
        result.append(child)
        child = _next_sibling(looks, child)
    return result


def _next_sibling(looks: list[_Look], node: int) -> int:
    """The number of the node behind another and all below it."""
    look = looks[node]
    child = node + 1
    for _ in range(1 if look.kind == "list" else look.children):
        child = _next_sibling(looks, child)
    return child


def at_steps(
    data: NDArray[np.uint8], start: int, step: int, count: int, size: int
) -> NDArray[np.uint8]:
    """The bytes at places of equal distance as rows of a matrix; nothing is copied."""
    rows: NDArray[np.uint8] = np.ndarray((count, size), np.uint8, data, start, (step, 1))
    return rows


def rows_at(data: NDArray[np.uint8], starts: Matrix, size: int) -> NDArray[np.uint8]:
    """The bytes at many places as rows of a matrix, copied only if distances differ."""
    step = int(starts[1] - starts[0]) if len(starts) > 1 else 0
    if step > 0 and starts[0] >= 0 and (np.diff(starts) == step).all():
        return at_steps(data, int(starts[0]), step, len(starts), size)
    return np.lib.stride_tricks.sliding_window_view(data, size)[starts]


class BulkContents:
    """Looks at the contents of messages of one stream whose metadata is correct.

    Args:
        view: all of the data.
        data: the same.
        decoder: of the stream, which knows its dictionaries.
        dictionaries: how many messages brought some.
    """

    def __init__(
        self, view: memoryview, data: NDArray[np.uint8], decoder: BatchDecoder, dictionaries: int
    ) -> None:
        self._view = view
        self._bytes = data
        self._decoder = decoder
        self._dictionaries = dictionaries
        self._looked_for = self._looks()

    def doubtful(self, checked: CheckedMessages) -> NDArray[np.bool_]:
        """Which of these messages are left to be validated one by one: True for each that is.

        Values of a fixed width hold nothing that could be wrong. Offsets must not decrease, nor lead
        outside; text is UTF-8 if its bytes are ASCII; indices must lie inside their dictionary;
        children of a struct are as long as the struct at least; and as many bits as the metadata
        says must be unset in a bitmap of nulls.
        """
        looks = self._looked_for
        if looks is None:
            return np.ones(len(checked.numbers), bool)
        nodes, buffers, bodies = checked.nodes, checked.buffers, checked.bodies
        bad = np.zeros(len(bodies), bool)
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
        return bad

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

    def _windows(self, starts: Matrix, size: int) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """The bytes at many places, a group at a time, as rows of a matrix; they may be the data's own.

        A row that would go on behind the end of the data begins sooner: nobody looks at it.
        """
        starts = np.minimum(starts, len(self._bytes) - size)
        for first in range(0, len(starts), GROUP):
            part = slice(first, first + GROUP)
            yield part, rows_at(self._bytes, starts[part], size)

    def _nulls_differ(self, starts: Matrix, nulls: Matrix, rows: int) -> NDArray[np.bool_]:
        differ = np.zeros(len(starts), bool)
        last = 0xFF >> -rows % 8  # of the last byte, the bits that stand for rows
        for part, bitmaps in self._windows(starts, (rows + 7) // 8):
            counted = np.bitwise_count(bitmaps[:, :-1]).sum(axis=1, dtype=np.int64)
            counted += np.bitwise_count(bitmaps[:, -1] & np.uint8(last))
            # Without nulls there may be no bitmap, and nobody looks at one.
            differ[part] = (nulls[part] > 0) & (rows - counted != nulls[part])
        return differ

    def _offsets_are_bad(self, starts: Matrix, rows: int, limits: Matrix) -> NDArray[np.bool_]:
        bad = np.zeros(len(starts), bool)
        for part, window in self._windows(starts, 4 * (rows + 1)):
            values = window.view("<i4")
            bad[part] = (values[:, 1:] < values[:, :-1]).any(axis=1)
            bad[part] |= (values[:, 0] < 0) | (values[:, -1] > limits[part])
        return bad

    def _is_not_ascii(self, starts: Matrix, sizes: Matrix) -> NDArray[np.bool_]:
        bad = np.zeros(len(starts), bool)
        view, position = self._view, 0
        while position < len(starts):
            size = int(sizes[position])
            part = slice(position, position + max(1, min(GROUP, _TEXT_BYTES // max(size, 1))))
            position = part.stop
            group, its_sizes = starts[part], sizes[part]
            if size and (its_sizes == size).all():
                bad[part] = rows_at(self._bytes, group, size).view(np.int8).min(axis=1) < 0
                continue
            # A copy, since a view cannot be asked; it stays in the processor's cache.
            bad[part] = [
                not bytes(view[start : start + size]).isascii()
                for start, size in zip(group.tolist(), its_sizes.tolist(), strict=True)
            ]
        return bad

    def _leads_outside(
        self, starts: Matrix, rows: int, dtype: np.dtype[np.generic], count: int
    ) -> NDArray[np.bool_]:
        outside = np.zeros(len(starts), bool)
        for part, window in self._windows(starts, dtype.itemsize * rows):
            values = window.view(dtype)
            outside[part] = (values.min(axis=1) < 0) | (values.max(axis=1) >= count)
        return outside
