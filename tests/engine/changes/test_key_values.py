"""Keys as numbers: equal keys have equal numbers, whatever holds them."""

from __future__ import annotations

import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.engine.changes.key_values import (
    check_key_type,
    is_exact,
    key_numbers,
    last_indices,
    last_of_key,
    same_keys,
)
from fletching.errors import InvalidArgumentError

SEED = bytes(range(16))
KEYS = st.lists(st.tuples(st.text("ab\0", max_size=20), st.integers(-2, 2)), min_size=1)


def columns(rows: list[tuple[str, int]]) -> list[pa.Array]:
    return [
        pa.array([text for text, _ in rows]),
        pa.array([number for _, number in rows], pa.int32()),
    ]


@given(KEYS)
def test_numbers_differ_as_keys_do(rows: list[tuple[str, int]]) -> None:
    numbers = key_numbers(columns(rows), SEED)
    assert len(set(numbers.tolist())) == len(set(rows))


@given(KEYS, st.integers(0, 3))
def test_numbers_do_not_depend_on_what_holds_the_values(
    rows: list[tuple[str, int]], skip: int
) -> None:
    texts, numbers = columns(rows)
    wanted = key_numbers([texts, numbers], SEED)[skip:].tolist()
    wide = [texts.cast(pa.large_string()), numbers.cast(pa.int64())]
    encoded = [texts.dictionary_encode(), numbers]
    for form in ([texts, numbers], wide, encoded):
        assert key_numbers([each[skip:] for each in form], SEED).tolist() == wanted
    if skip == 0:
        assert key_numbers([texts, numbers], bytes(16)).tolist() != wanted or not any(wanted)


def test_the_places_of_columns_count() -> None:
    left = [pa.array(["a", "ab"]), pa.array(["bc", "c"])]
    first, second = key_numbers(left, SEED).tolist()
    assert first != second


@pytest.mark.parametrize(
    ("column", "numbers"),
    [
        (pa.array([-1, 2], pa.int8()), [2**64 - 1, 2]),
        (pa.array([-1, 2], pa.int64()), [2**64 - 1, 2]),
        (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
        (pa.array([False, True]), [0, 1]),
        (pa.array([1], pa.date32()), [1]),
        (pa.array([7], pa.timestamp("us")), [7]),
    ],
)
def test_one_word_is_its_own_number(column: pa.Array, numbers: list[int]) -> None:
    assert is_exact([column.type])
    assert key_numbers([column], SEED).tolist() == numbers


def test_decimals_count_whole() -> None:
    column = pa.array(
        [decimal.Decimal(10) ** 30, decimal.Decimal(1), decimal.Decimal(-1)], pa.decimal128(38, 0)
    )
    assert not is_exact([column.type])
    assert len(set(key_numbers([column], SEED).tolist())) == 3
    assert key_numbers([column[1:]], SEED).tolist() == key_numbers([column], SEED).tolist()[1:]


@given(KEYS)
def test_the_last_row_of_each_key(rows: list[tuple[str, int]]) -> None:
    held = columns(rows)
    wanted = [row not in rows[number + 1 :] for number, row in enumerate(rows)]

    def chosen(indices: np.ndarray) -> list[pa.Array]:
        return [column.take(pa.array(indices)) for column in held]

    assert last_of_key(key_numbers(held, SEED), chosen).tolist() == wanted
    # Numbers that collide say nothing by themselves: the values do.
    collided = np.zeros(len(rows), dtype=np.uint64)
    assert last_of_key(collided, chosen).tolist() == wanted


def test_the_last_row_of_each_key_where_a_dictionary_has_a_value_twice() -> None:
    twice = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3, 1]), ["a", "a", "b", "b"])
    last = last_of_key(key_numbers([twice], SEED), lambda rows: [twice.take(pa.array(rows))])
    assert last.tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("spread", [3, 1 << 20, 1 << 63, (1 << 64) - 1])
def test_places_are_sorted_by_numbers_of_any_width(spread: int) -> None:
    """Also where numbers differ only in bits that give way to places."""
    random = np.random.default_rng(spread % 89)
    for count in (1, 2, 700, 5_000, 40_000):
        numbers = random.integers(0, spread, count, dtype=np.uint64, endpoint=True)
        numbers[::3] ^= np.uint64(1)
        numbers[1::7] = numbers[random.integers(0, count, len(numbers[1::7]))]
        indices, ordered = last_indices(numbers, None)
        last = {number: index for index, number in enumerate(numbers.tolist())}
        assert dict(zip(ordered.tolist(), indices.tolist(), strict=True)) == last
        assert ordered.tolist() == sorted(last)


def test_texts_of_one_length_have_the_numbers_they_have_among_others() -> None:
    """Their words are read where they lie instead of one by one."""
    for length in (0, 1, 7, 8, 9, 16, 23):
        texts = [f"{number:0{length}d}"[:length] if length else "" for number in range(0, 900, 13)]
        alike = key_numbers([pa.array(texts)], SEED).tolist()
        mixed = key_numbers([pa.array([*texts, "x" * 25, ""])], SEED).tolist()
        assert alike == mixed[: len(texts)]
        assert len(set(alike)) == len(set(texts))


@pytest.mark.parametrize("prefix", ["", "8 bytes ", "key of the row "])
def test_texts_that_begin_alike_have_the_numbers_they_have_among_others(prefix: str) -> None:
    """In many rows, too, and behind a column of which all rows have the same value."""
    texts = [f"{prefix}{number // 20_000:05d}{number:05d}" for number in range(40_000)]
    once = pa.array(["one"] * len(texts) + ["other"])
    column = pa.array([*texts, "x" * 40])
    whole = key_numbers([column], SEED), key_numbers([once, column], SEED)
    # The longer text at the end is not in these: all are of one length.
    length = len(texts)
    assert (key_numbers([pa.array(texts)], SEED) == whole[0][:length]).all()
    assert (key_numbers([once[:length], column[:length]], SEED) == whole[1][:length]).all()
    for chosen in (slice(0, 5), slice(16_380, 16_390), slice(39_998, 40_001)):
        mixed = pa.array([*column[chosen].to_pylist(), ""])
        assert (key_numbers([mixed], SEED)[:-1] == whole[0][chosen]).all()
    same = key_numbers([pa.array(["same"] * 3)], SEED)
    assert set(same.tolist()) == set(key_numbers([pa.array(["same", "longer"])], SEED)[:1].tolist())
    assert len(set(whole[0].tolist())) == len(texts) + 1


def test_keys_are_compared_by_their_values() -> None:
    left = [pa.array(["a", "b", "c"]).dictionary_encode(), pa.array([1, 2, 3], pa.int32())]
    right = [pa.array(["a", "b", "x"]), pa.array([1, 9, 3], pa.int64())]
    assert same_keys(left, right).tolist() == [True, False, False]
    assert same_keys([], []).tolist() == []


@pytest.mark.parametrize(
    "data_type",
    [pa.int8(), pa.string(), pa.large_binary(), pa.bool_(), pa.date64(), pa.timestamp("ns"),
     pa.decimal128(38, 18), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)  # fmt: skip
def test_types_of_keys(data_type: pa.DataType) -> None:
    check_key_type("k", data_type)


@pytest.mark.parametrize(
    "data_type",
    [pa.float64(), pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.decimal256(40, 0),
     pa.dictionary(pa.int8(), pa.int64()), pa.null(), pa.string_view()],
    ids=str,
)  # fmt: skip
def test_types_that_are_none(data_type: pa.DataType) -> None:
    with pytest.raises(InvalidArgumentError, match="column k is"):
        check_key_type("k", data_type)
