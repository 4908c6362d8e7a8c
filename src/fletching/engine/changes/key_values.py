"""The values of primary keys as 64-bit numbers: exact where a key is one whole number, else a hash.

Equal keys have equal numbers, whatever their Arrow type is (a text may come as string, large string
or dictionary). Of a key that is not exact, equal numbers mean equal keys only after the values have
been compared. The hash is seeded with a secret, so that nobody can choose keys that collide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.errors import InvalidArgumentError

__all__ = ["check_key_type", "is_exact", "key_numbers", "last_of_key", "same_keys"]

_U64 = NDArray[np.uint64]

# Odd constants with bits all over, as multiplicative mixing wants them (those of splitmix64).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)


def check_key_type(name: str, data_type: pa.DataType) -> None:
    """Refuses types whose values have no one equality: floats, nested ones, references.

    Raises:
        InvalidArgumentError: a key cannot be of this type.
    """
    types = pa.types
    fits = (
        types.is_integer(data_type)
        or types.is_boolean(data_type)
        or types.is_date(data_type)
        or types.is_timestamp(data_type)
        or types.is_decimal128(data_type)
        or _is_text(data_type)
        or (types.is_dictionary(data_type) and _is_text(data_type.value_type))
    )
    if not fits or isinstance(data_type, pa.BaseExtensionType):
        raise InvalidArgumentError(
            f"column {name} is {data_type}, which cannot be part of a primary key: take integers, "
            "texts, binaries, booleans, dates, timestamps or decimals"
        )


def _is_text(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(data_type)
        or types.is_large_string(data_type)
        or types.is_binary(data_type)
        or types.is_large_binary(data_type)
    )


def is_exact(data_types: Sequence[pa.DataType]) -> bool:
    """Whether the numbers of a key are its values: one column of at most 64 bits."""
    return len(data_types) == 1 and _is_word(data_types[0])


def _is_word(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(data_type)
        or types.is_boolean(data_type)
        or types.is_date(data_type)
        or types.is_timestamp(data_type)
    )


def key_numbers(columns: Sequence[pa.Array], seed: bytes) -> _U64:
    """The number of each row's key.

    Args:
        columns: the key's arrays, without nulls.
        seed: 16 secret bytes, the same for all rows of a table.

    Cost: a few passes of numpy over the values' words; no Python per row.
    """
    if is_exact([column.type for column in columns]):
        return _words(columns[0])
    first, second = np.frombuffer(seed[:16], dtype="<u8")
    total = np.full(len(columns[0]), first, dtype=np.uint64)
    for column in columns:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()  # noqa: PLW2901 - the same values
        if _is_word(column.type):
            total = _mixed(total, _words(column))
        elif pa.types.is_decimal(column.type):
            pairs = np.frombuffer(column.buffers()[1], dtype="<u8").reshape(-1, 2)
            pairs = pairs[column.offset : column.offset + len(column)]
            total = _mixed(_mixed(total, pairs[:, 0]), pairs[:, 1])
        else:
            total = _mixed_texts(total, column)
        # Each column ends with a step, so that ("a", "bc") and ("ab", "c") differ.
        total = _mixed(total, np.full(len(total), second, dtype=np.uint64))
    return total


def _words(column: pa.Array) -> _U64:
    """Values of at most 64 bits; whole numbers of any width as 64-bit ones, so that widening keeps them."""
    data_type = column.type
    if pa.types.is_boolean(data_type):
        return column.cast(pa.uint8()).to_numpy(zero_copy_only=False).astype(np.uint64)
    if pa.types.is_date32(data_type):
        column = column.cast(pa.int32())
    elif not pa.types.is_integer(data_type):
        column = column.cast(pa.int64())
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype == np.uint64:
        return np.ascontiguousarray(values)
    return values.astype(np.int64).view(np.uint64)


def _mixed(total: _U64, words: NDArray[np.uint64]) -> _U64:
    with np.errstate(over="ignore"):
        mixed = (total ^ words.astype(np.uint64, copy=False)) + _STEP
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
        return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


def _mixed_texts(total: _U64, column: pa.Array) -> _U64:
    """Mixes in bytes, eight at a time: every pass takes the next word of all rows that have one."""
    wide = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    _, offsets_buffer, data = column.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype="<i8" if wide else "<i4").astype(np.int64)
    offsets = offsets[column.offset : column.offset + len(column) + 1]
    starts, lengths = offsets[:-1], np.diff(offsets)
    total = _mixed(total, lengths.astype(np.uint64))
    if not len(lengths) or not int(lengths.max()):
        return total
    first, end = int(offsets[0]), int(offsets[-1])
    # Seven bytes more, so that the last word of the last row can be read as eight.
    padded = np.zeros(end - first + 8, dtype=np.uint8)
    padded[: end - first] = np.frombuffer(data, dtype=np.uint8)[first:end]
    every = np.ndarray(shape=(end - first + 1,), dtype="<u8", buffer=padded.data, strides=(1,))
    starts = starts - first
    rows = np.flatnonzero(lengths)
    position = 0
    total = total.copy()
    while len(rows):
        words = every[starts[rows] + position]
        left = lengths[rows] - position
        short = left < 8
        shift = np.uint64(64) - (left[short].astype(np.uint64) << np.uint64(3))
        words[short] = (words[short] << shift) >> shift
        total[rows] = _mixed(total[rows], words)
        position += 8
        rows = rows[~short & (left > 8)]
    return total


def same_keys(left: Sequence[pa.Array], right: Sequence[pa.Array]) -> NDArray[np.bool_]:
    """For each row whether two lists of key columns have the same key there, value by value."""
    import pyarrow.compute as pc

    same = np.ones(len(left[0]) if left else 0, dtype=bool)
    for one, other in zip(left, right, strict=True):
        if pa.types.is_dictionary(one.type):
            one = one.dictionary_decode()  # noqa: PLW2901 - the same values
        if pa.types.is_dictionary(other.type):
            other = other.dictionary_decode()  # noqa: PLW2901 - the same values
        if one.type != other.type:
            one = one.cast(other.type)  # noqa: PLW2901 - a column that was widened
        same &= pc.equal(one, other).to_numpy(zero_copy_only=False).astype(bool)
    return same


def last_of_key(
    numbers: _U64, columns: Callable[[NDArray[np.int64]], Sequence[pa.Array]] | None
) -> NDArray[np.bool_]:
    """For each row whether no later one has its key.

    Args:
        numbers: the rows' keys, in the order of the rows.
        columns: gives the key columns of some rows; None where the numbers are exact.
    """
    last = _last(numbers)
    if columns is None or last.all():
        return last
    # Rows whose number another row has, too: whether they have the same key, their values tell.
    doubtful = np.flatnonzero(np.isin(numbers, np.unique(numbers[~last])))
    codes = [
        column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        for column in columns(doubtful)
    ]
    places = [
        (each if pa.types.is_dictionary(each.type) else each.dictionary_encode()).indices
        for each in codes
    ]
    table = np.stack([each.to_numpy(zero_copy_only=False) for each in places], axis=1)
    _, groups = np.unique(table, axis=0, return_inverse=True)
    last = np.ones(len(numbers), dtype=bool)
    last[doubtful] = _last(groups.reshape(-1))
    return last


def _last(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    last = np.ones(len(values), dtype=bool)
    last[order[:-1]] = ordered[1:] != ordered[:-1]
    return last
