from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.engine.tables import zone_bounds
from fletching.engine.tables.statistics import StatisticsBuilder
from fletching.engine.tables.zone_bounds import ZONE_ROWS, choose, read_zones, zones_of
from fletching.sql.predicates.bounds import ColumnBounds


def recorded(*batches: pa.Array) -> bytes | None:
    builder = StatisticsBuilder(pa.schema([("c", batches[0].type)]))
    for batch in batches:
        builder.add([batch])
    return builder.encode_zones()


def bounds(data: bytes | None, first: int, end: int) -> ColumnBounds | None:
    known = read_zones(data)
    assert known is not None
    return known.column("c", first, end)


@pytest.mark.parametrize(
    ("values", "data_type", "zone", "together"),
    [
        ([[3, 1], [7]], pa.int64(), ColumnBounds(7, 7, False), ColumnBounds(1, 7, False)),
        ([[3], [None]], pa.int64(), ColumnBounds(nulls=True, values=False), ColumnBounds(3, 3, True)),
        ([[None], [3]], pa.int64(), ColumnBounds(3, 3, False), ColumnBounds(3, 3, True)),
        ([[1.5], [math.nan]], pa.float64(), ColumnBounds(nulls=False, unordered=True), ColumnBounds(nulls=False, unordered=True)),
        ([[True], [False]], pa.bool_(), ColumnBounds(0, 0, False), ColumnBounds(0, 1, False)),
        ([[1], [2**64 - 1]], pa.uint64(), ColumnBounds(None, None, False), ColumnBounds(None, None, False)),
        ([["a"], ["b"]], pa.string(), None, None),
        ([[None], ["b"]], pa.string(), ColumnBounds(nulls=False), ColumnBounds(nulls=True)),
        (
            [["a" * 200], ["b" * 200]],
            pa.string(),
            ColumnBounds("b" * 64, None, False),
            ColumnBounds("a" * 64, None, False),
        ),
    ],
)  # fmt: skip
def test_what_is_kept_of_zones(values: Any, data_type: Any, zone: Any, together: Any) -> None:
    data = recorded(*(pa.array(each, data_type) for each in values))
    if zone is None:
        assert data is None
        return
    assert bounds(data, 1, 2) == zone
    assert bounds(data, 0, 2) == together


def test_a_large_batch_has_several_zones_and_one_zone_is_not_worth_keeping() -> None:
    values = np.arange(2 * ZONE_ROWS + 5)
    data = recorded(pa.array(values))
    assert [zones_of(rows) for rows in (0, 1, ZONE_ROWS, ZONE_ROWS + 1)] == [1, 1, 1, 2]
    assert bounds(data, 1, 2) == ColumnBounds(ZONE_ROWS, 2 * ZONE_ROWS - 1, False)
    assert bounds(data, 2, 3) == ColumnBounds(2 * ZONE_ROWS, 2 * ZONE_ROWS + 4, False)
    assert recorded(pa.array(values[:ZONE_ROWS])) is None


numbers = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
floats = st.one_of(st.none(), st.floats(allow_nan=True))


@given(
    st.one_of(
        st.lists(st.lists(numbers, max_size=4), min_size=2, max_size=12).map(
            lambda it: [pa.array(each, pa.int64()) for each in it]
        ),
        st.lists(st.lists(floats, max_size=4), min_size=2, max_size=12).map(
            lambda it: [pa.array(each, pa.float64()) for each in it]
        ),
    ),
    st.data(),
)
def test_every_value_lies_within_its_bounds(batches: list[pa.Array], data: Any) -> None:
    stored = recorded(*batches)
    if stored is None:
        return
    first = data.draw(st.integers(0, len(batches) - 1))
    end = data.draw(st.integers(first + 1, len(batches)))
    known = bounds(stored, first, end)
    assert known is not None
    values = [value for batch in batches[first:end] for value in batch.to_pylist()]
    assert known.nulls == (None in values)
    assert known.values == any(value is not None for value in values)
    for value in values:
        if value is None:
            continue
        if isinstance(value, float) and math.isnan(value):
            assert known.unordered
            continue
        assert known.lower is None or known.lower <= value
        assert known.upper is None or known.upper >= value


@given(st.lists(st.booleans(), max_size=200))
def test_choosing_by_ranges_chooses_the_same(wanted: list[bool]) -> None:
    tests = 0

    def test(first: int, end: int) -> bool:
        nonlocal tests
        tests += 1
        return any(wanted[first:end])

    assert choose(len(wanted), test).tolist() == wanted
    if not any(wanted):
        assert tests <= 1


def test_what_leaves_out_nothing_of_very_many_is_asked_of_a_few() -> None:
    asked: list[tuple[int, int]] = []

    def always(first: int, end: int) -> bool:
        asked.append((first, end))
        return True

    assert choose(10_000, always).all()
    assert len(asked) <= 70
    assert all(end == first + 1 for first, end in asked)
    # A few that lie together are found among as many.
    wanted = np.zeros(10_000, dtype=bool)
    wanted[[777, 778]] = True
    zones = choose(10_000, lambda first, end: bool(wanted[first:end].any()))
    assert np.array_equal(zones, wanted)


def test_of_very_many_zones_neighbours_share_bounds() -> None:
    count = zone_bounds.MAX_BYTES // 17 + 100
    builder = StatisticsBuilder(pa.schema([("c", pa.int64()), ("d", pa.int64())]))
    for number in range(count):
        value = pa.array([number])
        builder.add([value, value])
    data = builder.encode_zones()
    assert data is not None
    assert len(data) <= zone_bounds.MAX_BYTES + 100
    known = read_zones(data)
    assert known is not None
    assert known.zones == 4
    for zone in (0, 1, 7, count - 1):
        bounds = known.column("d", zone, zone + 1)
        assert bounds is not None
        assert isinstance(bounds.lower, int)
        assert isinstance(bounds.upper, int)
        assert bounds.lower <= zone <= bounds.upper < bounds.lower + 4
    assert known.column("c", count + 8, count + 9) is None


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"\xc1",
        msgspec.msgpack.encode((ZONE_ROWS // 2, 1, {})),
        msgspec.msgpack.encode((ZONE_ROWS, 0, {})),
        msgspec.msgpack.encode({"newer": 1}),
    ],
)
def test_what_is_not_understood_says_nothing(data: bytes | None) -> None:
    assert read_zones(data) is None


@pytest.mark.parametrize(
    "column",
    [
        (b"\x1a\x1a", "<i8", b"12345678", b"12345678" * 2),
        (b"\x1a\x1a", "<i4", b"1234" * 2, b"1234" * 2),
        (b"\x1a\x1a", "<i8", ["a", "b"], ["a", "b"]),
        (b"\x1a\x1a", "text", ["a"], ["a", "b"]),
        "newer",
    ],
)
def test_a_damaged_column_says_nothing_and_others_do(column: Any) -> None:
    good = (b"\x1a\x1a", "<i8", b"\1\0\0\0\0\0\0\0" * 2, b"\2\0\0\0\0\0\0\0" * 2)
    data = msgspec.msgpack.encode((ZONE_ROWS, 1, {"c": column, "d": good}))
    known = read_zones(data)
    assert known is not None
    assert known.column("c", 0, 1) is None
    assert known.column("x", 0, 1) is None
    assert known.column("d", 0, 2) == ColumnBounds(1, 2, False)
