"""Proof that two streams of record batches hold the same values, whatever their chunking."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import pyarrow as pa

from fletching.protocol.types.row_selection import plain_values

__all__ = ["Difference", "first_difference", "same_values"]


@dataclasses.dataclass(frozen=True)
class Difference:
    """The first place where two streams differ."""

    row: int
    column: str
    reason: str

    def __str__(self) -> str:
        where = f"row {self.row:,}" + (f", column {self.column}" if self.column else "")
        return f"{where}: {self.reason}"


def same_values(left: pa.Array, right: pa.Array) -> bool:
    """Whether two arrays of one type are equal bit for bit: NaN equals the same NaN, 0.0 is not -0.0."""
    if left.type != right.type or len(left) != len(right):
        return False
    kind = left.type
    if isinstance(left, pa.ExtensionArray):
        return same_values(left.storage, right.storage)
    if pa.types.is_floating(kind):
        bits = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[kind.bit_width]
        return bool(left.view(bits).equals(right.view(bits)))
    if pa.types.is_dictionary(kind):
        return same_values(plain_values(left), plain_values(right))
    if pa.types.is_struct(kind):
        return bool(left.is_null().equals(right.is_null())) and all(
            same_values(a, b) for a, b in zip(left.flatten(), right.flatten(), strict=True)
        )
    if _is_list(kind):
        if not left.is_null().equals(right.is_null()):
            return False
        lengths = (left.value_lengths(), right.value_lengths())
        return bool(lengths[0].equals(lengths[1])) and same_values(left.flatten(), right.flatten())
    if left.equals(right):
        return True
    # Maps, unions and views that hold NaN are unequal even to themselves; their text tells. This
    # is reached only when equals() already said no, so it costs nothing on equal data.
    return repr(left.to_pylist()) == repr(right.to_pylist())


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def first_difference(
    expected: Iterable[pa.RecordBatch], actual: Iterable[pa.RecordBatch]
) -> Difference | None:
    """Compares two streams row range by row range in bounded memory; None when all is equal."""
    row = 0
    left, right = _Rows(expected), _Rows(actual)
    while True:
        rows = min(left.available(), right.available())
        if rows == 0:
            if left.available():
                return Difference(row, "", "rows are missing from here on")
            if right.available():
                return Difference(row, "", "there are more rows than were written")
            return None
        a, b = left.take(rows), right.take(rows)
        if a.schema.names != b.schema.names:
            return Difference(row, "", f"columns are {b.schema.names}, not {a.schema.names}")
        for name, x, y in zip(a.schema.names, a.columns, b.columns, strict=True):
            if x.type != y.type:
                return Difference(row, name, f"type is {y.type}, not {x.type}")
            if not same_values(x, y):
                return Difference(row + _first_row(x, y), name, "the value differs")
        row += rows


def _first_row(left: pa.Array, right: pa.Array) -> int:
    """The first differing row, by halving."""
    low, high = 0, len(left)
    while high - low > 1:
        middle = (low + high) // 2
        if same_values(left[low:middle], right[low:middle]):
            low = middle
        else:
            high = middle
    return low


class _Rows:
    """A stream of batches, taken in pieces of any row count up to what one batch still holds."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches: Iterator[pa.RecordBatch] = iter(batches)
        self._current: pa.RecordBatch | None = None

    def available(self) -> int:
        while self._current is None or self._current.num_rows == 0:
            self._current = next(self._batches, None)
            if self._current is None:
                return 0
        return int(self._current.num_rows)

    def take(self, rows: int) -> pa.RecordBatch:
        assert self._current is not None
        taken, self._current = self._current[:rows], self._current[rows:]
        return taken
