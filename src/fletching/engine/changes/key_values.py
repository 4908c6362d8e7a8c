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
from fletching.protocol.types.row_selection import plain_values

__all__ = [
    "ascend",
    "check_key_type",
    "is_exact",
    "joined_columns",
    "key_numbers",
    "last_indices",
    "last_of_key",
    "plain_column",
    "same_keys",
]

_U64 = NDArray[np.uint64]

# Odd constants with bits all over, as multiplicative mixing wants them (those of splitmix64).
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)

_MASKS = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)
"""What of a word are its first bytes, by how many."""

_BLOCK_ROWS = 1 << 14
"""Rows that are mixed at a time: what all passes work on stays in a core's own cache."""

_FEW_NUMBERS = 1 << 10


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


def plain_column(column: pa.Array) -> pa.Array:
    """A column without a dictionary: one that came may have a value twice, so that only values tell."""
    return plain_values(column)


def joined_columns(parts: Sequence[pa.Array], data_type: pa.DataType) -> pa.Array:
    """Parts of a column of some type, one behind the other, without dictionaries."""
    if not parts:
        plain = data_type.value_type if pa.types.is_dictionary(data_type) else data_type
        return pa.array([], plain)
    return pa.concat_arrays(list(map(plain_column, parts)))


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
    if not len(total):
        return total
    mixers = [_mixer(column) for column in columns]
    scratch = np.empty(min(_BLOCK_ROWS, len(total)), dtype=np.uint64)
    for start in range(0, len(total), _BLOCK_ROWS):
        part = total[start : start + _BLOCK_ROWS]
        for mixer in mixers:
            mixer(part, start, scratch)
            # Each column ends with a step, so that ("a", "bc") and ("ab", "c") differ.
            _mix(part, second, scratch)
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
        return np.asarray(values)
    return values.astype(np.int64, copy=False).view(np.uint64)


def _mix(total: _U64, words: _U64 | np.uint64, scratch: _U64) -> None:
    """Takes one more word of each row into its number, in place."""
    shifted = scratch[: len(total)]
    total ^= words
    total += _STEP
    for shift, factor in ((_SHIFT_1, _MIX_1), (_SHIFT_2, _MIX_2)):
        np.right_shift(total, shift, out=shifted)
        total ^= shifted
        total *= factor
    np.right_shift(total, _SHIFT_3, out=shifted)
    total ^= shifted


def _mixer(column: pa.Array) -> Callable[[_U64, int, _U64], None]:
    """Mixes the values from some row on into the numbers of as many rows."""
    if pa.types.is_dictionary(column.type):
        column = plain_values(column)
    if _is_word(column.type) or pa.types.is_decimal(column.type):
        if _is_word(column.type):
            words = _words(column).reshape(-1, 1)
        else:
            words = np.frombuffer(column.buffers()[1], dtype="<u8").reshape(-1, 2)
            words = words[column.offset : column.offset + len(column)]

        def mix_words(total: _U64, start: int, scratch: _U64) -> None:
            for index in range(words.shape[1]):
                _mix(total, words[start : start + len(total), index], scratch)

        return mix_words
    wide = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    _, offsets_buffer, data = column.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype="<i8" if wide else "<i4")
    offsets = offsets[column.offset : column.offset + len(column) + 1]
    values = np.frombuffer(b"" if data is None else data, dtype=np.uint8)
    held = np.empty(min(_BLOCK_ROWS, len(column)), dtype=np.uint64)

    def mix_texts(total: _U64, start: int, scratch: _U64) -> None:
        ends = offsets[start : start + len(total) + 1]
        lengths = ends[1:] - ends[:-1]
        first, end, length = int(ends[0]), int(ends[-1]), int(lengths[0])
        if (lengths == length).all():
            _mix_equal_lengths(total, length, values[first:], held[: len(total)], scratch)
        else:
            _mix_texts(total, ends.astype(np.int64) - first, values[first:end], scratch)

    return mix_texts


def _mix_equal_lengths(
    total: _U64, length: int, values: NDArray[np.uint8], words: _U64, scratch: _U64
) -> None:
    """Mixes in texts of one length, as those made of numbers mostly are: words lie at equal distances.

    As long as all rows have the same number and the same word, as where texts begin alike, the word is mixed
    into one of them.
    """
    alike = bool(total[0] == total[-1] and (total == total[0]).all())
    end = len(total) * length
    if end + 8 > len(values):
        # Some bytes more, so that the last word of the last row can be read as eight.
        values = np.append(values[:end], np.zeros(8, dtype=np.uint8))
    _mix(total[:1] if alike else total, np.uint64(length), scratch)
    for at in range(0, length, 8):
        words[:] = np.ndarray(
            len(total), dtype="<u8", buffer=values.data, offset=at, strides=(length,)
        )
        if length - at < 8:
            words &= _MASKS[length - at]
        if alike and not (words == words[0]).all():
            total[:] = total[0]
            alike = False
        count = 1 if alike else len(total)
        _mix(total[:count], words[:count], scratch)
    if alike:
        total[:] = total[0]


def _mix_texts(
    total: _U64, offsets: NDArray[np.int64], values: NDArray[np.uint8], scratch: _U64
) -> None:
    """Mixes in bytes, eight at a time: every pass takes the next word of all rows that have one."""
    lengths = np.diff(offsets)
    _mix(total, lengths.view(np.uint64), scratch)
    # Some bytes more, so that the last word of the last row can be read as eight.
    padded = np.append(values, np.zeros(8, dtype=np.uint8))
    least = int(lengths.min())
    every: _U64 = np.ndarray(
        shape=(len(values) + 1,), dtype="<u8", buffer=padded.data, strides=(1,)
    )
    index = offsets[:-1].copy()
    for _ in range(least >> 3):  # words that all rows have: nothing to choose from
        _mix(total, every[index], scratch)
        index += 8
    left = lengths - (least & ~7)
    rows = np.flatnonzero(left)
    left, index = left[rows], index[rows]
    while len(rows):
        words = every[index]
        words &= _MASKS[np.minimum(left, 8)]
        numbers = total[rows]
        _mix(numbers, words, scratch)
        total[rows] = numbers
        more = left > 8
        rows, left, index = rows[more], left[more] - 8, index[more] + 8


def same_keys(left: Sequence[pa.Array], right: Sequence[pa.Array]) -> NDArray[np.bool_]:
    """For each row whether two lists of key columns have the same key there, value by value."""
    import pyarrow.compute as pc

    same = np.ones(len(left[0]) if left else 0, dtype=bool)
    for mine, other in zip(left, right, strict=True):
        if pa.types.is_dictionary(mine.type):
            mine = plain_values(mine)  # noqa: PLW2901 - the same values
        if pa.types.is_dictionary(other.type):
            other = plain_values(other)  # noqa: PLW2901 - the same values
        if mine.type != other.type:
            mine = mine.cast(other.type)  # noqa: PLW2901 - a column that was widened
        same &= pc.equal(mine, other).to_numpy(zero_copy_only=False).astype(bool)
    return same


def last_of_key(
    numbers: _U64, columns: Callable[[NDArray[np.int64]], Sequence[pa.Array]] | None
) -> NDArray[np.bool_]:
    """For each row whether no later one has its key.

    Args:
        numbers: the rows' keys, in the order of the rows.
        columns: gives the key columns of some rows; None where the numbers are exact.
    """
    last = np.zeros(len(numbers), dtype=bool)
    last[last_indices(numbers, columns)[0]] = True
    return last


def last_indices(
    numbers: _U64, columns: Callable[[NDArray[np.int64]], Sequence[pa.Array]] | None
) -> tuple[NDArray[np.int64], _U64]:
    """The rows of which no later one has the key, ascending by number, and their numbers.

    Arguments as of `last_of_key`.
    """
    indices, ordered = _last(numbers)
    if columns is None or len(indices) == len(numbers):
        return indices, ordered
    # Rows whose number another row has, too: whether they have the same key, their values tell.
    alone = np.zeros(len(numbers), dtype=bool)
    alone[indices] = True
    doubtful = np.flatnonzero(np.isin(numbers, np.unique(numbers[~alone])))
    codes = [
        column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        for column in columns(doubtful)
    ]
    values = [plain_column(each).dictionary_encode().indices for each in codes]
    table = np.stack([each.to_numpy(zero_copy_only=False) for each in values], axis=1)
    _, groups = np.unique(table, axis=0, return_inverse=True)
    alone[doubtful] = False
    alone[doubtful[_last(groups.reshape(-1).astype(np.uint64))[0]]] = True
    indices = np.flatnonzero(alone)
    order, ordered = _ascending(numbers[indices])
    return indices[order], ordered


def _last(values: _U64) -> tuple[NDArray[np.int64], _U64]:
    """The last index of each value, ascending by value, and the values."""
    if ascend(values):
        return np.arange(len(values)), values
    order, ordered = _ascending(values)
    last = np.append(ordered[1:] != ordered[:-1], True)
    return (order, ordered) if last.all() else (order[last], ordered[last])


def ascend(numbers: NDArray[np.unsignedinteger]) -> bool:
    """Whether each number is more than the one before it; of numbers in any order few are looked at."""
    few = numbers[:_FEW_NUMBERS]
    return bool((few[1:] > few[:-1]).all() and (numbers[1:] > numbers[:-1]).all())


def _ascending(values: _U64) -> tuple[NDArray[np.int64], _U64]:
    """The indices of values in ascending order, equal ones as they stand, and the values in it.

    Numbers are sorted several times faster than indices by numbers. So the indices are sorted as the
    lowest bits of the values; what that hides of the values is put in order afterwards.
    """
    count = len(values)
    if not count:
        return np.arange(0), values
    least = values.min()
    spare = 64 - int(values.max() - least).bit_length()
    bits = count.bit_length()
    below = np.uint64((1 << bits) - 1)
    packed = np.empty(count, dtype=np.uint64)
    for start in range(0, count, _BLOCK_ROWS):
        part = packed[start : start + _BLOCK_ROWS]
        np.subtract(values[start : start + _BLOCK_ROWS], least, out=part)
        if spare:
            part <<= np.uint64(spare)
        part &= ~below
        part |= np.arange(start, start + len(part), dtype=np.uint64)
    packed.sort()
    packed &= below
    order = packed.view(np.int64)
    ordered = values.take(order)
    if spare < bits and (ordered[1:] < ordered[:-1]).any():
        seen = ((ordered - least) << np.uint64(spare)) & ~below
        alike = seen[1:] == seen[:-1]
        near = np.flatnonzero(np.append(alike, False) | np.append(False, alike))
        again = near[np.lexsort((ordered[near], seen[near]))]
        order[near], ordered[near] = order[again], ordered[again]
    return order, ordered
